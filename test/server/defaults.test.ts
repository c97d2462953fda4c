import { pino } from 'pino'
import { Registry } from 'prom-client'
import { expect, it } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import { createServer } from '../../src/server/server.ts'
import type { Handlers } from '../../src/worker/handler.ts'
import { announce, normalizeHandlers } from '../../src/worker/handlers.ts'

it('answers a repeated submission or schedule the same after a deploy has changed the defaults of its handler', async () => {
  const queue = await openQueue('sqlite::memory:')
  const deploy = async (defaults: { maxRetry?: number; processTimeout?: string }) => {
    const handlers = normalizeHandlers({ t: { ...defaults, run: () => null } } as Handlers)
    await announce(queue, handlers)
    const logger = pino({ level: 'silent' })
    const registry = new Registry()
    const server = await createServer({ queue, handlers, logger, version: '1', instanceId: 'i', registry })
    const post = async (url: string, payload: object) => {
      const answer = await server.inject({ method: 'POST', url: `/api/v1${url}`, payload })
      return { status: answer.statusCode, body: answer.json() }
    }
    return { post, close: () => server.close() }
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
  await after.close()
  await queue.close()
})

it('finds tasks by a tag whose key has colons', async () => {
  const queue = await openQueue('sqlite::memory:')
  const handlers = normalizeHandlers({ t: { run: () => null } } as Handlers)
  await announce(queue, handlers)
  const registry = new Registry()
  const logger = pino({ level: 'silent' })
  const server = await createServer({ queue, handlers, logger, version: '1', instanceId: 'i', registry })
  const tags = { 'team:eu': 'a:b', team: 'eu:a:b' }
  for (const [key, value] of Object.entries(tags)) {
    const payload = { type: 't', tags: { [key]: value } }
    await server.inject({ method: 'POST', url: '/api/v1/tasks', payload })
  }
  const found = async (tag: string) => {
    const answer = await server.inject({ method: 'GET', url: '/api/v1/tasks', query: { tag } })
    return (answer.json().tasks as { tags: object }[]).map((task) => task.tags)
  }
  expect(await found('team\\:eu:a:b')).toEqual([{ 'team:eu': 'a:b' }])
  expect(await found('team:eu:a:b')).toEqual([{ team: 'eu:a:b' }])
  await server.close()
  await queue.close()
})
