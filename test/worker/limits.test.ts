import { expect, it } from 'vitest'
import { RateLimited } from '../../src/task/retry.ts'
import { createTestQueue } from '../../src/testing/test-queue.ts'
import { defineHandlers, type Handlers, type TaskWith } from '../../src/worker/handler.ts'
import { normalizeHandlers } from '../../src/worker/handlers.ts'
import { openTestQueue, serveQueue } from '../fixtures/server.ts'

const run = () => null

it.each([
  [{ uses: { gpu: 0 } }, /uses\.gpu, which is 0: it must be an integer from 1/],
  [{ uses: { 'type:x': 1 } }, /uses\.type:x, which is not the name of a limit/],
  [{ uses: [1] }, /uses, which must be an object/],
  [{ limits: { gpu: 3 } }, /limits\["gpu"\], is not \{ max, rate \}/],
  [{ limits: { gpu: { max: 0 } } }, /limits\["gpu"\], max is 0/],
  [{ limits: { gpu: { most: 1 } } }, /limits\["gpu"\], is not \{ max, rate \}/],
  [{ limits: { 'group:t/a': { max: 1 } } }, /limits\["group:t\/a"\], rate is not possible/],
  [{ limits: { gpu: { rate: { max: 1 } } } }, /limits\["gpu"\], has a rate that is not \{ max, per \}/],
])('a handler with %j is refused', (fields, message) => {
  expect(() => normalizeHandlers({ t: { run, ...fields } } as unknown as Handlers)).toThrow(message)
})

const handlers = defineHandlers({
  answer: {
    limits: { model: { max: 1 }, tokens: { rate: { max: 100, per: '1h' } } },
    uses: ({ n }: { n: number }) => ({ model: 1, tokens: n }),
    run: ({ payload, deliveries }: TaskWith<{ n: number }>, { usage }) => {
      if (payload.n === 7 && deliveries === 1) throw new RateLimited({ limit: 'model', for: '1m' })
      usage({ tokens: 10 })
      return payload.n
    },
  },
  render: { uses: { model: 1 }, run },
})

it('computes uses from the payload, in tests as on a server', async () => {
  const queue = await createTestQueue(handlers)
  const task = await queue.submit('answer', { n: 60 })
  expect(task.uses).toEqual({ model: 1, tokens: 60 })
  // Both fit the rate only because the first one reports that it has used less.
  const second = await queue.submit('answer', { n: 60 })
  await queue.runUntilIdle()
  expect([await queue.result(task), await queue.result(second)]).toEqual([60, 60])
  await expect(queue.submit('answer', { n: 0 })).rejects.toMatchObject({ errors: [{ path: 'uses.tokens' }] })
  await queue.close()
})

it('holds a limit for every type that uses it', async () => {
  const queue = await createTestQueue(handlers)
  const first = await queue.submit('answer', { n: 7 })
  await queue.advance('30s')
  const other = await queue.submit('render', null)
  await queue.advance('20s')
  expect([(await queue.get(first)).status, (await queue.get(other)).status]).toEqual(['pending', 'pending'])
  await queue.runUntilIdle()
  expect([(await queue.get(first)).attempts, (await queue.get(other)).status]).toEqual([1, 'success'])
  await queue.close()
})

it('needs uses from the caller where a server lacks the handler that computes them', async () => {
  const queue = await openTestQueue()
  const own = await serveQueue(queue, { handlers })
  const { status, body } = await own.post('/tasks', { type: 'answer', payload: { n: 5 } })
  expect([status, body.uses]).toEqual([201, { model: 1, tokens: 5 }])
  const thrown = await own.post('/tasks', { type: 'answer', payload: null })
  expect([thrown.status, thrown.body.errors[0].path]).toEqual([400, 'uses'])
  const other = await serveQueue(queue, {})
  const refused = await other.post('/tasks', { type: 'answer', payload: { n: 5 } })
  expect([refused.status, refused.body.detail]).toEqual([400, expect.stringMatching(/^uses is required: .*--handlers/)])
  const given = await other.post('/tasks', { type: 'answer', payload: { n: 5 }, uses: { model: 1 } })
  expect([given.status, given.body.uses]).toEqual([201, { model: 1 }])
  const scheduled = await other.post('/schedules', { id: 's', type: 'render', every: '1h' })
  expect([scheduled.status, scheduled.body.uses]).toEqual([201, { model: 1 }])
  for (const [uses, code] of [
    [{ model: 9 }, 'invalid_request'],
    [{ nothing: 1 }, 'unknown_limit'],
  ] as const) {
    const bad = await other.post('/schedules', { id: 'bad', type: 'render', every: '1h', uses })
    expect([bad.status, bad.body.code, bad.body.errors[0].path]).toEqual([400, code, `uses.${Object.keys(uses)}`])
    const change = await other.call('PATCH', '/schedules/s', { uses })
    expect([change.status, change.body.code]).toEqual([400, code])
  }
})
