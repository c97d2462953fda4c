import { expect, it } from 'vitest'
import { completeSpec } from '../../src/task/task.ts'
import { openTestQueue } from '../fixtures/server.ts'

const WORKER = { id: 'w', host: 'h', pid: 1, types: ['t'], concurrency: 9, startedAt: 0 }

it('ends as many leases in one step as the sweep may, so that no step takes long', async () => {
  let now = 1_700_000_000_000
  const queue = await openTestQueue('sqlite::memory:', { clock: () => now, leaseMs: 1_000 })
  await queue.configureType('t', { declared: true })
  await queue.submit(Array.from({ length: 5 }, () => completeSpec({ type: 't' })))
  await queue.turn({ worker: WORKER, want: 5 })
  now += 1_000
  const left: number[] = []
  for (let more = true; more; ) {
    more = (await queue.sweep(2)).more
    left.push((await queue.stats()).counts.processing)
  }
  expect(left.slice(0, 3)).toEqual([3, 1, 0])
})

it('makes as many delayed tasks ready in one step as the sweep may, and says that there are more', async () => {
  let now = 1_700_000_000_000
  const queue = await openTestQueue('sqlite::memory:', { clock: () => now })
  await queue.configureType('t', { declared: true })
  await queue.submit(Array.from({ length: 5 }, () => completeSpec({ type: 't', delayMs: 1_000 })))
  now += 1_000
  const more = []
  for (let step = 0; step < 3; step++) more.push((await queue.sweep(2)).more)
  expect(more).toEqual([true, true, false])
})
