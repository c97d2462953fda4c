import { beforeEach, expect, it } from 'vitest'
import type { Lease, Queue } from '../../src/queue/queue.ts'
import type { Outcome } from '../../src/task/outcome.ts'
import { completeSpec, type TaskSpec } from '../../src/task/task.ts'
import { type RunningRedis, redisCli, startRedis } from '../fixtures/redis.ts'
import { openTestQueue } from '../fixtures/server.ts'

const WORKER = { id: 'w', host: 'h', pid: 1, types: ['t', 'u'], concurrency: 9, startedAt: 0 }
const AGE_MS = 600_000
/** Of failed tasks of type u. */
const OWN_MS = 90_000

let now: number
let redis: RunningRedis
let queue: Queue
beforeEach(async () => {
  now = 1_700_000_000_000
  redis = await startRedis()
  queue = await openTestQueue(redis.url, { clock: () => now, retention: { ageMs: AGE_MS, countMax: 100 } })
  await queue.configureType('t', { declared: true })
  await queue.configureType('u', { declared: true, retention: { failed: OWN_MS } })
})

const submit = async (spec: Partial<TaskSpec> = {}) =>
  (await queue.submit([completeSpec({ type: 't', idempotencyKey: 'k', ...spec })]))[0]!
const claim = async () => (await queue.turn({ worker: WORKER, want: 1 })).leases[0]
const end = async (outcome: Outcome, worker = WORKER) => {
  const { lease } = (await claim()) as Lease
  await queue.turn({ worker, want: 0, outcomes: [{ lease, outcome }] })
}
const FAILURE: Outcome = { kind: 'failure', error: 'no', retry: false, delayMs: null }
const SUCCESS: Outcome = { kind: 'success', result: null }
/** How long Redis keeps the key, -1 for as long as nothing else is said. */
const keptMs = () => Number(redisCli(redis.port, 'PTTL', 'xq:{0}:key:k'))

const ENDS: [string, Partial<TaskSpec>, (id: string) => Promise<unknown>][] = [
  ['fails', {}, () => end(FAILURE)],
  ['of a group fails', { group: 'g' }, () => end(FAILURE)],
  ['of a type with its own retention fails', { type: 'u' }, () => end(FAILURE)],
  ['is canceled', {}, (id) => queue.cancel({ ids: [id] })],
  ['is canceled while it is delayed', { delayMs: 5_000 }, (id) => queue.cancel({ ids: [id] })],
  [
    'is canceled while it runs',
    {},
    async (id) => {
      const lease = await claim()
      await queue.cancel({ ids: [id] })
      await queue.turn({ worker: WORKER, want: 0, outcomes: [{ lease: lease!.lease, outcome: SUCCESS }] })
    },
  ],
  [
    'runs too long',
    { processTimeoutMs: 500, maxRetry: 0 },
    async () => {
      await claim()
      now += 500
      await queue.sweep(9)
    },
  ],
  [
    'waits too long',
    { queueTimeoutMs: 500 },
    async () => {
      now += 500
      await queue.sweep(9)
    },
  ],
  [
    'waits too long, as a claim finds',
    { queueTimeoutMs: 500 },
    async () => {
      now += 500
      expect(await claim()).toBeUndefined()
    },
  ],
]

it.each(ENDS)(
  'keeps the key of a task that %s as long as the task, and until then after a retry',
  async (_, spec, ends) => {
    const { id } = (await submit(spec)).task
    expect(keptMs()).toBe(-1)
    await ends(id)
    const most = spec.type === 'u' ? OWN_MS : AGE_MS
    expect(keptMs()).toBeGreaterThan(most - 60_000)
    expect(keptMs()).toBeLessThanOrEqual(most)
    expect((await submit(spec)).existing).toBe(true)
    expect((await queue.retry({ ids: [id] })).results).toMatchObject([{ id }])
    expect(keptMs()).toBe(-1)
    await end(SUCCESS)
    expect(keptMs()).toBeGreaterThan(AGE_MS - 60_000)
    expect(keptMs()).toBeLessThanOrEqual(AGE_MS)
    expect(await submit(spec)).toMatchObject({ existing: true, task: { id, status: 'success' } })
  },
)

it('accepts a task again whose key is left when it has been removed', async () => {
  const { id } = (await submit()).task
  await end(SUCCESS)
  now += AGE_MS + 1
  await queue.sweep(9)
  expect(keptMs()).toBeGreaterThan(0)
  const again = await submit()
  expect(again.existing).toBe(false)
  expect(again.task.id).not.toBe(id)
  expect(keptMs()).toBe(-1)
})
