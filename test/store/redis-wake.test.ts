import { setImmediate as tick } from 'node:timers/promises'
import { beforeAll, expect, it } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import { completeSpec } from '../../src/task/task.ts'
import { type RunningRedis, startRedis } from '../fixtures/redis.ts'

let redis: RunningRedis
beforeAll(async () => {
  redis = await startRedis()
})

const ROUNDS = 1_500

it('wakes a waiting turn at any time of the submission, also before the turn reaches Redis', async () => {
  const [here, there] = await Promise.all([openQueue(redis.url), openQueue(redis.url)])
  await here.configureType('t', { declared: true })
  const worker = { id: 'w', host: 'h', pid: 1, types: ['t'], concurrency: 1, startedAt: 0 }
  // There are no sweeps: a missed wake-up would not be repaired soon.
  for (let round = 0; round < ROUNDS; round++) {
    const waiting = here.turn({ worker, want: 1, waitMs: 60_000 })
    for (let ticks = 0; ticks < round % 8; ticks++) await tick()
    await there.submit([completeSpec({ type: 't' })])
    const { leases } = await waiting
    expect(leases).toHaveLength(1)
    const outcomes = leases.map(({ lease }) => ({ lease, outcome: { kind: 'success', result: null } as const }))
    await here.turn({ worker, want: 0, outcomes })
  }
  await Promise.all([here.close(), there.close()])
})
