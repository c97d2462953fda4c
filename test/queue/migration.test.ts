import { setTimeout as sleep } from 'node:timers/promises'
import { beforeEach, expect, it, vi } from 'vitest'
import { migrate, type Progress } from '../../src/queue/migration.ts'
import type { Queue } from '../../src/queue/queue.ts'
import { completeSpec } from '../../src/task/task.ts'
import { openTestQueue } from '../fixtures/server.ts'

const WORKER = { id: 'w', host: 'h', pid: 1, types: ['t'], concurrency: 1, startedAt: 0 }
let from: Queue
let to: Queue
let told: Progress[]
beforeEach(async () => {
  from = await openTestQueue()
  to = await openTestQueue()
  told = []
  await from.configureType('t', { declared: true })
  await from.submit([completeSpec({ type: 't' })])
})

const run = (source: Queue) => migrate(source, to, Date.now, (progress) => void told.push(progress))
const claim = async () => (await from.turn({ worker: WORKER, want: 1 })).leases[0]!
const succeed = (lease: string) =>
  from.turn({ worker: WORKER, want: 0, outcomes: [{ lease, outcome: { kind: 'success', result: null } }] })

it('says once how many tasks still run, and before its end how many finished ones it has not copied', async () => {
  const { lease } = await claim()
  let looks = 0
  const types: Queue['types'] = (query) => {
    looks++
    return from.types(query)
  }
  let counted = 0
  const stats: Queue['stats'] = async (query) => {
    if (counted++ === 0) await sleep(50) // The second call has the figures of the waiting tasks.
    return from.stats(query)
  }
  const migrated = run({ ...from, types, stats })
  await vi.waitFor(() => expect(looks).toBeGreaterThan(4), 20_000)
  await succeed(lease)
  await migrated
  expect(told.filter((progress) => 'running' in progress)).toEqual([{ running: 1 }, { running: 0 }])
  expect(told).toContainEqual({ copied: 0, notCopied: 1 })
})

it('fails when a schedule cannot be paused in the source', async () => {
  const { delayMs: _, runAt: __, idempotencyKey: ___, ...task } = completeSpec({ type: 't' })
  const rest = { catchUp: 'one', overlap: 'allow', paused: false } as const
  await from.schedules({ add: { id: 'a', task, timing: { everyMs: 60_000 }, ...rest } })
  const schedules: Queue['schedules'] = async (change) => {
    if (change) throw new Error('cannot be paused')
    return from.schedules()
  }
  await expect(run({ ...from, schedules })).rejects.toThrow('cannot be paused')
})
