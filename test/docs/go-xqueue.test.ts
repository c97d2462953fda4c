import { join } from 'node:path'
import { beforeAll, expect, it } from 'vitest'
import { type Program, startProgram } from '../fixtures/program.ts'
import { root } from '../fixtures/root.ts'

/** What docs/migrating-from-go-xqueue.md promises: the first calls of its users. */

let server: Program

beforeAll(async () => {
  server = await startProgram({ handlers: join(root, 'handlers/index.ts') })
})

it('runs `example` with only a message, and `email` with only an address or with a body', async () => {
  const example = await server.submit('example', { message: 'hi' })
  expect(await server.until(example, { status: 'success' })).toMatchObject({ result: { slept: 1, message: 'hi' } })
  for (const payload of [{ to: 'a@example.com' }, { to: 'a@example.com', subject: 's', body: 'b' }]) {
    const id = await server.submit('email', payload)
    expect(await server.until(id, { status: 'success' })).toMatchObject({ result: { sent: false } })
  }
})

it('accepts 10 as the highest priority, and refuses more', async () => {
  const task = { type: 'example', payload: { duration: 0 } }
  expect(await server.call('POST', '/tasks', { ...task, priority: 10 })).toMatchObject({
    status: 201,
    body: { priority: 9 },
  })
  expect((await server.call('POST', '/tasks', { ...task, priority: 11 })).status).toBe(400)
})

it('pages by limit and offset, and names the cursor beyond the largest offset', async () => {
  const tasks = Array.from({ length: 5 }, () => ({ type: 'example', delay: '1h', tags: { page: 'one' } }))
  await server.call('POST', '/tasks/batch', { tasks })
  const ids = async (query: string) => {
    const { body } = await server.call('GET', `/tasks?tag=page:one&${query}`)
    return body.tasks.map(({ id }: { id: string }) => id) as string[]
  }
  const all = await ids('limit=5')
  expect(all).toHaveLength(5)
  expect(await ids('limit=2&offset=0')).toEqual(all.slice(0, 2))
  expect(await ids('limit=2&offset=2')).toEqual(all.slice(2, 4))
  expect(await ids('limit=2&offset=4')).toEqual(all.slice(4))
  expect(await ids('limit=2&offset=5')).toEqual([])
  expect((await server.call('GET', '/tasks?offset=10001')).status).toBe(400)
  const both = await server.call('GET', '/tasks?offset=1&cursor=eA')
  expect(both).toMatchObject({ status: 400, body: { errors: [{ path: 'offset' }] } })
})

it('reports statistics under the old names, and the time', async () => {
  const { body: stats } = await server.call('GET', '/stats')
  expect(stats.processed_tasks).toBe(
    stats.success_tasks + stats.failed_tasks + stats.canceled_tasks + stats.timeout_tasks,
  )
  expect(stats.failed_tasks_count).toBe(stats.failed_tasks)
  const { body: health } = await server.call('GET', '/health')
  expect(Math.abs(Date.parse(health.timestamp) - Date.now())).toBeLessThan(60_000)
})

it('hands out tasks of every type to a consumer that names none', async () => {
  await server.call('POST', '/types/email/pause')
  const worker = await startProgram({ handlers: join(root, 'handlers/index.ts'), flags: ['--no-worker'] })
  const id = await worker.submit('email', { to: 'a@example.com' })
  const { body } = await worker.call('POST', '/tasks/consume', { max: 5 })
  expect(body.leases).toMatchObject([{ task: { id, type: 'email' } }])
  await worker.stop()
})

it('names the new path of a path without a version', async () => {
  const answer = await fetch(`${server.url}/stats`)
  expect(await answer.json()).toMatchObject({ status: 404, detail: 'GET /stats does not exist: use /api/v1/stats' })
})
