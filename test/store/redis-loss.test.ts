import { afterEach, beforeAll, beforeEach, expect, it, vi } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import type { Queue, TypeInfo } from '../../src/queue/queue.ts'
import { RETRY_DEFAULTS } from '../../src/task/retry.ts'
import { completeSpec } from '../../src/task/task.ts'
import { type RunningRedis, redisCli, startRedis } from '../fixtures/redis.ts'

let redis: RunningRedis
/** A process with the handler of type t, which idles; and one with workers over HTTP alone. */
let owner: Queue
let other: Queue
const HTTP_WORKER = { id: 'http', host: 'h', pid: 1, types: ['t'], concurrency: 10, startedAt: 0 }

beforeAll(async () => {
  redis = await startRedis()
})
beforeEach(async () => {
  owner = await openQueue(redis.url)
  other = await openQueue(redis.url)
  const limits = { maxConcurrency: 1, groupConcurrency: null, rate: { max: 100, perMs: 60_000 } }
  const handler = { ...limits, retry: RETRY_DEFAULTS, payloadSchema: null, defaults: { maxRetry: 7 } }
  await owner.configureType('t', { handler })
  await owner.configureType('u', { handler })
  await other.turn({ worker: HTTP_WORKER, want: 0 })
})
afterEach(async () => {
  await Promise.all([owner.close(), other.close()])
  redisCli(redis.port, 'FLUSHALL')
})

/** As a client does: a 503 is tried again, any other refusal is final. */
const submitted = async (type = 't') => {
  for (;;) {
    try {
      return await other.submit([completeSpec({ type })])
    } catch (error) {
      if ((error as { code: string }).code !== 'engine_unavailable') throw error
    }
  }
}
const seen = async (): Promise<TypeInfo | undefined> => (await other.types({ names: ['t'] }))[0]

it('accepts submissions of handled types again a moment after the store has lost everything', async () => {
  redisCli(redis.port, 'FLUSHDB')
  expect(await submitted()).toHaveLength(1)
})

it('restores the limit and the rate that a handler sets before anything is claimed', async () => {
  redisCli(redis.port, 'FLUSHDB')
  await other.turn({ worker: HTTP_WORKER, want: 1 })
  for (let tasks = 0; tasks < 3; tasks++) await submitted()
  const leases = (await other.turn({ worker: HTTP_WORKER, want: 3 })).leases
  await vi.waitFor(async () => expect((await seen())?.maxConcurrency).toBe(1), { timeout: 5_000 })
  leases.push(...(await other.turn({ worker: HTTP_WORKER, want: 3 })).leases)
  expect(leases).toHaveLength(1)
  expect(await seen()).toMatchObject({ rate: { max: 100, perMs: 60_000 }, defaults: { maxRetry: 7 } })
})

it('hands out a task under its own id although an outcome of a lease from before the loss arrives', async () => {
  await submitted('t')
  const [before] = (await other.turn({ worker: HTTP_WORKER, want: 1 })).leases
  redisCli(redis.port, 'FLUSHDB')
  // The first lane of the empty store is now the one of another type.
  const [accepted] = await submitted('u')
  const outcomes = [{ lease: before!.lease, outcome: { kind: 'success' as const, result: null } }]
  const worker = { ...HTTP_WORKER, types: ['u'] }
  const { settled, leases } = await other.turn({ worker, outcomes, want: 1 })
  expect(settled).toEqual([{ accepted: false, status: null }])
  expect(leases.map((lease) => lease.task.id)).toEqual([accepted!.task.id])
})

it('notices the loss by the sweep alone', async () => {
  await other.sweep(1)
  redisCli(redis.port, 'FLUSHDB')
  await other.sweep(1)
  await vi.waitFor(async () => expect(await seen()).toMatchObject({ maxConcurrency: 1 }), { timeout: 5_000 })
})

it('still reports an unknown type', async () => {
  await expect(other.submit([completeSpec({ type: 'nope' })])).rejects.toMatchObject({ code: 'unknown_type' })
})
