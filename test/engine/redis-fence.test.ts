import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest'
import { ENGINE_DEFAULTS, type Engine } from '../../src/engine/engine.ts'
import { openEngine } from '../../src/engine/open.ts'
import { Numbers } from '../../src/engine/redis/ids.ts'
import { redisPlace } from '../../src/engine/redis/place.ts'
import { RedisStore } from '../../src/engine/redis/store.ts'
import { submissionOf } from '../../src/engine/redis/submissions.ts'
import { RETRY_DEFAULTS } from '../../src/task/retry.ts'
import { completeSpec, type TaskSpec } from '../../src/task/task.ts'
import { type RunningRedis, redisCli, startRedis } from '../services/redis.ts'

// A step cannot be undone: what its arguments hold that it cannot write is found before it writes anything. The checks
// before it let nothing of the kind through, so these tests go past them.

const WORKER = { id: 'w', host: 'h', pid: 1, types: ['t'], concurrency: 10, startedAt: 0 }

let redis: RunningRedis
let engine: Engine
let store: RedisStore
beforeAll(async () => {
  redis = await startRedis()
})
afterAll(async () => {
  await store.link.close()
  await engine.close()
  await redis.stop()
})
beforeEach(async () => {
  await store?.link.close()
  await engine?.close()
  redisCli(redis.port, 'FLUSHALL')
  engine = await openEngine(redis.url)
  store = new RedisStore(redisPlace(redis.url), Date.now, async () => undefined)
  await store.link.open()
  const limits = { maxConcurrency: null, groupConcurrency: null, rate: null }
  await engine.configureType('t', {
    handler: { ...limits, retry: RETRY_DEFAULTS, payloadSchema: null, defaults: {} },
  })
})

it.each<[string, Partial<TaskSpec>]>([
  ['a time that is none', { runAt: Number.NaN }],
  ['a delay that is none', { delayMs: Number.POSITIVE_INFINITY }],
  ['a time-out that is none', { processTimeoutMs: 1e22 }],
  ['a tag that Lua cannot read', { tags: { to: 'cut \ud83d' } }],
])('refuses the call with %s whole, and the calls beside it are accepted whole', async (_, bad) => {
  const call = (...specs: Partial<TaskSpec>[]) => ({
    specs: specs.map((spec) => completeSpec({ type: 't', ...spec })),
    after: specs.map(() => []),
  })
  const calls = [call({ tags: { a: 'b' } }), call({}, bad, {}), call({ group: 'g' }, {})]
  const { args } = submissionOf('', calls, new Numbers(), ENGINE_DEFAULTS, '')
  const [, told] = await store.run<[string[], (string | (string | number)[])[]]>('submit', 0, args)
  expect(told.map((answer) => (Array.isArray(answer) ? answer : 'accepted'))).toEqual([
    'accepted',
    ['unstorable', 2],
    'accepted',
  ])
  const { tasks } = await engine.list({ limit: 10 })
  expect(tasks).toHaveLength(3)
  expect((await engine.stats()).counts.pending).toBe(3)
})

it('writes nothing of an outcome that it cannot store, and all of those beside it', async () => {
  await engine.submit([completeSpec({ type: 't' }), completeSpec({ type: 't' })])
  const { leases } = await engine.turn({ worker: WORKER, want: 2 })
  const places = leases.map(({ lease, task }) => ({ lease, fence: lease.slice(lease.lastIndexOf('.') + 1), task }))
  const lane = redisCli(redis.port, 'HGET', 'xq:{0}:lanes', 't:0').trim()
  const refs = redisCli(redis.port, 'HKEYS', 'xq:{0}:leases').trim().split('\n')
  const refOf = (fence: string) =>
    refs.find((ref) => redisCli(redis.port, 'HGET', 'xq:{0}:leases', ref).startsWith(`${fence}|`))!
  expect(lane).not.toBe('')
  const [first] = places
  const others = refs.filter((ref) => ref !== refOf(first!.fence))
  const bad = ['O', refs[0]!, first!.fence, '0', '', 'pending', '1', '0', 'NaN', '', '"busy"', 'null']
  const good = ['O', others[0] ?? refs[1]!, places[1]!.fence, '0', '', 'failed', '1', '0', '0', '', '"busy"', 'null']
  const turn = [WORKER.id, '"w"', '', 0, 0, '', 1_000, 0, 2, ...bad, ...good, 0, '', '', 0]
  const args = ['p', '', 1_000, 1_000, 0, 1, lane, 't:0', 1, ...turn]
  const [, , [answer]] = await store.run<[string, string, [string[], number[]][]]>('turn', 0, args)
  expect(answer![1]).toEqual([3, 0])
  const statuses = (await engine.list({ limit: 10 })).tasks.map(({ status }) => status)
  expect(statuses.sort()).toEqual(['failed', 'processing'])
})
