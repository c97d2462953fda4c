import { beforeAll, describe, expect, it } from 'vitest'
import type { Queue } from '../../src/queue/queue.ts'
import { openTestQueue, type QueueServer, serveQueue, startServer } from '../fixtures/server.ts'

let queue: Queue
let server: QueueServer

beforeAll(async () => {
  queue = await openTestQueue()
  server = await serveQueue(queue)
})

const declare = (...handlers: object[]) => server.post('/handlers', { handlers })
const typeOf = async (type: string) => (await queue.types({ names: [type] }))[0]!

describe('POST /api/v1/handlers', () => {
  it('makes types known with their settings, and replaces those of an earlier worker', async () => {
    const settings = {
      ...{ concurrency: 3, group_concurrency: 2, group_turns: 'time', rate: { max: 5, per: '1m' } },
      ...{ uses: { gpu: 1 }, limits: { gpu: { max: 4, rate: { max: 9, per: 2 } } }, max_retry: 7 },
      ...{ queue_timeout: '1h', process_timeout: 0, retry: { base: 2, factor: 3, cap: '1m', jitter: 0.5 } },
      retention: { success: 0, failed: '2d' },
    }
    const { status, body } = await declare({ type: 'full', ...settings }, { type: 'bare' })
    expect({ status, body }).toEqual({ status: 200, body: { handlers: ['full', 'bare'], count: 2 } })
    expect(await typeOf('full')).toMatchObject({
      ...{ maxConcurrency: 3, groupConcurrency: 2, groupTurns: 'time', rate: { max: 5, perMs: 60_000 } },
      defaults: { maxRetry: 7, queueTimeoutMs: 3_600_000, processTimeoutMs: 0, uses: { gpu: 1 } },
    })
    expect((await queue.limits()).find(({ name }) => name === 'gpu')).toMatchObject({
      ...{ max: 4, rate: { max: 9, perMs: 2_000 } },
    })
    expect((await server.post('/tasks', { type: 'bare' })).status).toBe(201)
    const twice = await declare({ type: 'twice', concurrency: 1 }, { type: 'twice', concurrency: 2 })
    expect(twice.body).toEqual({ handlers: ['twice'], count: 1 })
    expect(await typeOf('twice')).toMatchObject({ maxConcurrency: 2 })
    await declare({ type: 'full' })
    expect(await typeOf('full')).toMatchObject({ maxConcurrency: null, groupTurns: 'tasks', rate: null, defaults: {} })
  })

  it('leaves what an operator has set, and the payload that a worker on the store has described', async () => {
    const payloadSchema = { type: 'object', required: ['to'] }
    const handler = { maxConcurrency: null, groupConcurrency: null, rate: null, defaults: {}, payloadSchema }
    const retry = { baseMs: 1, factor: 1, capMs: 1, jitter: 0 }
    await queue.declareHandlers(new Map([['mail', { ...handler, retry }]]))
    await server.call('PUT', '/limits/type:mail', { max: 2 })
    await declare({ type: 'mail', concurrency: 9 })
    expect(await typeOf('mail')).toMatchObject({ maxConcurrency: 2, payloadSchema })
    expect((await server.post('/tasks', { type: 'mail', payload: {} })).body.errors[0].path).toBe('payload')
  })

  it.each([
    ['no handlers', [], 'handlers'],
    ['a name that is no type', [{ type: 'a b' }], 'handlers[0].type'],
    ['an unknown field', [{ type: 'a', concurency: 1 }], 'handlers[0].concurency'],
    ['a limit of 0', [{ type: 'a', concurrency: 0 }], 'handlers[0].concurrency'],
    ['a rate without a window', [{ type: 'a', rate: { max: 1 } }], 'handlers[0].rate.per'],
    ['a window of two days', [{ type: 'a', rate: { max: 1, per: '2d' } }], 'handlers[0].rate.per'],
    ['a base above its cap', [{ type: 'a' }, { type: 'b', retry: { base: 9, cap: 1 } }], 'handlers[1].retry'],
    ['a duration that is none', [{ type: 'a', retry: { base: 'soon' } }], 'handlers[0].retry.base'],
    ['a retention that is none', [{ type: 'a', retention: { failed: '1x' } }], 'handlers[0].retention.failed'],
    ['a status that does not end', [{ type: 'a', retention: { pending: 1 } }], 'handlers[0].retention.pending'],
    ['a limit of a type by name', [{ type: 'a', limits: { 'type:b': { max: 1 } } }], 'handlers[0].limits.type:b'],
    [
      'more units than its limit',
      [{ type: 'a', uses: { gpu: 3 }, limits: { gpu: { max: 2 } } }],
      'handlers[0].uses.gpu',
    ],
    ['units of no limit', [{ type: 'a', uses: { 'type:b': 1 } }], 'handlers[0].uses.type:b'],
  ])('refuses %s with the path of the field, and declares nothing', async (_what, handlers, path) => {
    const { status, body } = await declare(...handlers)
    expect({ status, code: body.code }).toEqual({ status: 400, code: 'invalid_request' })
    expect(body.errors.map((error: { path: string }) => error.path)).toContain(path)
    expect(await queue.types({ names: ['a', 'b'] })).toEqual([])
  })

  it('names the type of the handler in an error, of a schema and of a rule', async () => {
    const told = async (handler: object) => {
      const { body } = await declare({ type: 'a' }, { type: 'mail', ...handler })
      return [body.detail, body.errors[0].message]
    }
    expect(await told({ concurrency: 0 })).toEqual([
      'body: handlers[1].concurrency must be >= 1 (type "mail")',
      'must be >= 1 (type "mail")',
    ])
    expect(await told({ retry: { base: 9, cap: 1 } })).toEqual([
      'handlers[1].retry has a base above its cap (type "mail")',
      'has a base above its cap (type "mail")',
    ])
    expect((await declare({ concurrency: 0 })).body.detail).toBe('body: handlers[0].type is required')
  })

  it('lets a key without `admin` create 100 named limits, and leaves room for others', async () => {
    const guarded = await startServer({ auth: 'keys' })
    const key = await guarded.key(['work'])
    const limitsOf = (from: number, count: number) =>
      Object.fromEntries(Array.from({ length: count }, (_, index) => [`limit-${from + index}`, { max: 1 }]))
    const send = async (token: string, limits: object) =>
      (await guarded.as(token).post('/handlers', { handlers: [{ type: 'quick', limits }] })).body
    expect(await send(key, limitsOf(0, 60))).toMatchObject({ count: 1 })
    expect(await send(key, limitsOf(20, 80))).toMatchObject({ count: 1 })
    expect(await send(key, limitsOf(100, 1))).toMatchObject({
      code: 'too_many_limits',
      detail: expect.stringContaining('"limit-100" is not created'),
    })
    expect(await send(key, limitsOf(50, 1))).toMatchObject({ count: 1 })
    expect(await send(await guarded.key(['admin']), limitsOf(100, 1))).toMatchObject({ count: 1 })
    await guarded.stop()
  })
})
