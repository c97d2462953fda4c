import { expect, it } from 'vitest'
import type { TypeChange } from '../../src/queue/queue.ts'
import { completeSpec } from '../../src/task/task.ts'
import { closeAfterwards } from '../fixtures/closing.ts'
import { openTestQueue } from '../fixtures/server.ts'

const WORKER = { id: 'w', host: 'h', pid: 1, types: ['t'], concurrency: 9, startedAt: 0 }
const NOW = 1_700_000_000_000

it.each<[string, TypeChange, number[]]>([
  ['nothing', {}, []],
  ['a hold', { holdMs: 3_000 }, [3_000]],
  ['a rate', { rate: { max: 1, perMs: 5_000 } }, [5_000]],
  ['a hold that ends before the rate', { holdMs: 3_000, rate: { max: 1, perMs: 5_000 } }, [5_000]],
])('a turn that waits for %s is woken once, at its end', async (_, change, expected) => {
  const delays = new Set<number>()
  const after = (ms: number) => {
    delays.add(ms)
    return () => void delays.delete(ms)
  }
  const queue = await openTestQueue('sqlite::memory:', { clock: () => NOW, after })
  await queue.configureType('t', { declared: true, maxConcurrency: 2, ...(change.rate ? { rate: change.rate } : {}) })
  await queue.submit([1, 2].map(() => completeSpec({ type: 't' })))
  expect((await queue.turn({ worker: WORKER, want: change.rate ? 9 : 2 })).leases).toHaveLength(change.rate ? 1 : 2)
  if (change.holdMs) await queue.configureType('t', { holdMs: change.holdMs })
  const stop = new AbortController()
  const waiting = queue.turn({ worker: WORKER, want: 1, waitMs: 60_000, signal: stop.signal })
  closeAfterwards(async () => [stop.abort(), await waiting])
  await queue.stats()
  expect([...delays].sort((a, b) => a - b)).toEqual([...expected, 60_000])
})
