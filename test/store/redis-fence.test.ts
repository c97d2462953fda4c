import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import { QUEUE_DEFAULTS, type Queue } from '../../src/queue/queue.ts'
import { Database } from '../../src/store/redis/client/database.ts'
import { parseRedisUrl } from '../../src/store/redis/client/redis-url.ts'
import { Numbers } from '../../src/store/redis/records/ids.ts'
import { submissionOf } from '../../src/store/redis/submit/submit-codec.ts'
import { RETRY_DEFAULTS } from '../../src/task/retry.ts'
import { completeSpec, type TaskSpec } from '../../src/task/task.ts'
import { type RunningRedis, redisCli, startRedis } from '../fixtures/redis.ts'

// A step cannot be undone, so it finds arguments that it cannot write before it writes anything. The checks
// before it refuse such arguments, so these tests bypass them.

const WORKER = { id: 'w', host: 'h', pid: 1, types: ['t'], concurrency: 10, startedAt: 0 }

let redis: RunningRedis
let queue: Queue
let store: Database
beforeAll(async () => {
  redis = await startRedis()
})
afterAll(async () => {
  await store.link.close()
  await queue.close()
})
beforeEach(async () => {
  await store?.link.close()
  await queue?.close()
  redisCli(redis.port, 'FLUSHALL')
  queue = await openQueue(redis.url)
  store = new Database(parseRedisUrl(redis.url), Date.now, async () => undefined)
  await store.link.open()
  const limits = { maxConcurrency: null, groupConcurrency: null, rate: null }
  await queue.configureType('t', {
    handler: { ...limits, retry: RETRY_DEFAULTS, payloadSchema: null, defaults: {} },
  })
})

it.each<[string, Partial<TaskSpec>]>([
  ['an invalid time', { runAt: Number.NaN }],
  ['an invalid delay', { delayMs: Number.POSITIVE_INFINITY }],
  ['an invalid time-out', { processTimeoutMs: 1e22 }],
  ['a tag that Lua cannot read', { tags: { to: 'cut \ud83d' } }],
])('refuses a whole call with %s, and accepts the calls beside it', async (_, bad) => {
  const call = (...specs: Partial<TaskSpec>[]) => ({
    specs: specs.map((spec) => completeSpec({ type: 't', ...spec })),
    after: specs.map(() => []),
  })
  const calls = [call({ tags: { a: 'b' } }), call({}, bad, {}), call({ group: 'g' }, {})]
  const { args } = submissionOf('', calls, new Numbers(), QUEUE_DEFAULTS, '')
  const [, told] = await store.run<[string[], (string | (string | number)[])[]]>('submit', 0, args)
  expect(told.map((answer) => (Array.isArray(answer) ? answer : 'accepted'))).toEqual([
    'accepted',
    ['unstorable', 2],
    'accepted',
  ])
  const { tasks } = await queue.list({ limit: 10 })
  expect(tasks).toHaveLength(3)
  expect((await queue.stats()).counts.pending).toBe(3)
})

it.each([
  ['not a number', Number.NaN],
  ['too large', -1e13],
])('writes nothing of an outcome that it cannot store, and everything of those beside it: %s', async (_, random) => {
  // No check covers the jitter of the back-off, which here makes the time of the next attempt invalid.
  const odd = await openQueue(redis.url, { random: () => random })
  try {
    await odd.submit(Array.from({ length: 3 }, () => completeSpec({ type: 't' })))
    const { leases } = await odd.turn({ worker: WORKER, want: 3 })
    const fails = { kind: 'failure', error: 'busy', retry: true, delayMs: null } as const
    const outcomes = leases.map(({ lease }, index) => ({
      lease,
      outcome: index === 1 ? fails : ({ kind: 'success', result: index } as const),
    }))
    const { settled } = await odd.turn({ worker: WORKER, want: 0, outcomes })
    expect(settled.map(({ status }) => status)).toEqual(['success', 'failed', 'success'])
    const tasks = await odd.get(leases.map(({ task }) => task.id))
    expect(tasks.map((task) => task!.status)).toEqual(['success', 'failed', 'success'])
    expect(tasks[1]!.error).toMatch(/the outcome was refused: .*cannot be stored/)
    expect((await odd.stats()).counts).toMatchObject({ pending: 0, processing: 0, success: 2, failed: 1 })
  } finally {
    await odd.close()
  }
})
