import { expect, it } from 'vitest'
import type { Handlers } from '../../src/worker/handler.ts'
import { openTestQueue, serveQueue } from '../fixtures/server.ts'

it('accepts a repeated submission or schedule after a deploy has changed the defaults of its handler', async () => {
  const queue = await openTestQueue()
  const deploy = async (defaults: { maxRetry?: number; processTimeout?: string }) => {
    const server = await serveQueue(queue, { handlers: { t: { ...defaults, run: () => null } } as Handlers })
    const post = async (path: string, task: object) => {
      const { status, body } = await server.post(path, task)
      return { status, body }
    }
    return { post, close: () => server.stop() }
  }
  const task = { type: 't', payload: { n: 1 }, idempotency_key: 'k' }
  const schedule = { id: 's', type: 't', payload: { n: 1 }, every: '1h' }
  const before = await deploy({ maxRetry: 3 })
  const first = await before.post('/tasks', task)
  const added = await before.post('/schedules', schedule)
  await before.close()
  const after = await deploy({ maxRetry: 9, processTimeout: '5s' })
  expect(await after.post('/tasks', task)).toEqual({ status: 200, body: first.body })
  expect(await after.post('/schedules', schedule)).toMatchObject({ status: 200, body: { next_at: added.body.next_at } })
  const other = await after.post('/tasks', { ...task, max_retry: 9 })
  expect([other.status, other.body.code]).toEqual([409, 'idempotency_conflict'])
})

it('finds tasks by a tag whose key has colons', async () => {
  const queue = await openTestQueue()
  const server = await serveQueue(queue, { handlers: { t: { run: () => null } } })
  const tags = { 'team:eu': 'a:b', team: 'eu:a:b' }
  for (const [key, value] of Object.entries(tags)) {
    await server.post('/tasks', { type: 't', tags: { [key]: value } })
  }
  const found = async (tag: string) => {
    const { body } = await server.get(`/tasks?${new URLSearchParams({ tag })}`)
    return (body.tasks as { tags: object }[]).map((task) => task.tags)
  }
  expect(await found('team\\:eu:a:b')).toEqual([{ 'team:eu': 'a:b' }])
  expect(await found('team:eu:a:b')).toEqual([{ team: 'eu:a:b' }])
})
