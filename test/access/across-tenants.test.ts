import { expect, it, vi } from 'vitest'
import { completeSpec } from '../../src/task/task.ts'
import { startRedis } from '../fixtures/redis.ts'
import { startServer } from '../fixtures/server.ts'

it.each(['SQLite', 'Redis'])('hides tasks that a key without bounds lets wait for each other on %s', async (store) => {
  const redis = store === 'Redis' ? await startRedis() : null
  const server = await startServer({ auth: 'keys', ...(redis && { engine: redis.url }) })
  const { queue } = server
  for (const type of ['own', 'foreign']) await queue.configureType(type, { declared: true })
  const bounds = { types: ['own'], groups: ['own-group'] }
  const tenant = server.as(await server.key(['submit', 'read'], { bounds }))
  const submit = async (type: string, after: string[] = [], count = 1) => {
    const spec = completeSpec({ type, group: `${type}-group`, delayMs: 3_600_000, after })
    return (await queue.submit(Array.from({ length: count }, () => spec))).map(({ task }) => task.id)
  }
  const [foreign, awaited] = [(await submit('foreign'))[0]!, (await submit('own'))[0]!]
  const waiting = (await submit('own', [foreign]))[0]!
  await submit('foreign', [awaited], 101)
  const successors = await submit('own', [awaited])
  const explanation = (await tenant.get(`/tasks/${awaited}/explain`)).body
  expect(explanation).toMatchObject({ successors, has_more_successors: false })

  await queue.cancel({ ids: [foreign] })
  await vi.waitFor(async () => expect((await queue.get([waiting]))[0]!.status).toBe('canceled'), 30_000)
  const error = 'a task, which it waits for, ended as canceled'
  expect((await tenant.get(`/tasks/${waiting}`)).body).toMatchObject({ status: 'canceled', error, after: [] })
  const listed = (await tenant.get('/tasks?status=canceled')).body.tasks
  expect(listed.map((task: { error: string }) => task.error)).toEqual([error])
  const headers = { Authorization: `Bearer ${tenant.token}`, 'Last-Event-ID': '0' }
  const { body } = await fetch(`${server.url}/api/v1/events?status=canceled`, { headers })
  let text = ''
  for await (const part of body!) {
    text += Buffer.from(part).toString()
    if (text.includes('ended as canceled')) break
  }
  expect(text).toContain(error)
  expect(text).not.toContain(foreign)

  await queue.erase([foreign])
  expect((await tenant.post(`/tasks/${waiting}/retry`)).body).toMatchObject({
    code: 'task_not_retryable',
    detail: expect.stringContaining('has been deleted: submit it again'),
  })
  await server.stop()
  await redis?.stop()
})
