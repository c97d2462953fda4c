import { mkdirSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { pino } from 'pino'
import { expect, it, vi } from 'vitest'
import type { Turn, TurnAnswer } from '../../src/queue/queue.ts'
import { XQueueError } from '../../src/task/errors.ts'
import { completeSpec } from '../../src/task/task.ts'
import { renewLeases } from '../../src/worker/renewal.ts'
import { PROCESS } from '../../src/worker/runtime.ts'
import { isHeldOn, SharedLeases } from '../../src/worker/shared-leases.ts'
import type { TaskSource } from '../../src/worker/task-source.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { openTestQueue } from '../fixtures/server.ts'

const LEASE_MS = 1_500
const WORKER = { id: 'w', host: 'h', pid: 1, types: ['t'], concurrency: 1, startedAt: 0 }

/** Time that passes only in pauses; `late` is added to the pause under way, as if the process was stopped meanwhile. */
class StepTime {
  at = 0
  late = 0
  readonly pauses: number[] = []
  readonly now = () => this.at
  readonly after = (ms: number, run: () => void) => {
    const timer = setImmediate(() => {
      this.pauses.push(ms)
      this.at += ms + this.late
      this.late = 0
      run()
    })
    return () => clearImmediate(timer)
  }
}

/** Renews one lease until `turn` has been called `calls` times. */
async function renew(
  time: StepTime,
  calls: number,
  turn: (call: number) => Promise<number>,
  key?: string | null,
): Promise<string[]> {
  const board = new SharedLeases(1)
  board.add('task.1', LEASE_MS)
  const stop = new AbortController()
  const lost: string[] = []
  let call = 0
  const source = {
    turn: async ({ renewals }: Turn): Promise<Pick<TurnAnswer, 'renewed'>> => {
      expect(renewals).toEqual([{ lease: 'task.1' }])
      call += 1
      if (call === calls) stop.abort()
      return { renewed: [{ expiresAt: await turn(call), cancelRequested: false }] }
    },
  }
  const input = { engineUrl: '', key, worker: WORKER, board: board.memory, leaseMs: LEASE_MS }
  await renewLeases(source as unknown as TaskSource, input, stop.signal, (leases) => lost.push(...leases), time)
  return lost
}

it('repeats a failed renewal while the lease is still valid', async () => {
  const time = new StepTime()
  const calledAt: number[] = []
  const lost = await renew(time, 5, async (call) => {
    calledAt.push(time.at)
    if (call > 1 && call < 5) throw new XQueueError('engine_unavailable', 'away')
    return time.at + LEASE_MS
  })
  expect(calledAt.at(-1)! - calledAt[0]!).toBeLessThan(LEASE_MS)
  expect(lost).toEqual([])
})

it('renews at once, and then three times per lease; those of a server for as long as its answers say', async () => {
  const pauses = async (leaseMs: number, key?: string | null) => {
    const time = new StepTime()
    await renew(time, 4, async () => time.at + leaseMs, key)
    return time.pauses
  }
  expect(await pauses(LEASE_MS)).toEqual([0, 500, 500, 500])
  // The answers of a store change nothing.
  expect(await pauses(9_000)).toEqual([0, 500, 500, 500])
  expect(await pauses(9_000, null)).toEqual([0, 3_000, 3_000, 3_000])
  expect(await pauses(9_000, 'xq_key')).toEqual([0, 3_000, 3_000, 3_000])
  expect(await pauses(300, null)).toEqual([0, 200, 200, 200])
  // It was over before its answer was read.
  expect(await pauses(0)).toEqual([0, 10, 10, 10])
})

it('repeats a failed renewal after a thirtieth of the lease, or sooner', async () => {
  const pauses = async (key?: string | null) => {
    const time = new StepTime()
    const failing = async () => Promise.reject(new XQueueError('engine_unavailable', 'away'))
    await renew(time, 3, failing, key)
    return time.pauses
  }
  expect(await pauses()).toEqual([0, 50, 50])
  expect(await pauses(null)).toEqual([0, 50, 50])
})

it('waits for leases, and reports those that are no longer held', async () => {
  const time = new StepTime()
  const board = new SharedLeases(3)
  const stop = new AbortController()
  const lost: string[][] = []
  const asked: (readonly unknown[])[] = []
  const turn = async ({ want, renewals = [] }: Turn) => {
    asked.push([want, ...renewals.map(({ lease }) => lease)])
    if (asked.length === 2) stop.abort()
    const held = { expiresAt: time.at + LEASE_MS, cancelRequested: false }
    return { renewed: renewals.map(({ lease }) => (lease === 'b.2' ? null : held)) }
  }
  const after = (ms: number, run: () => void) => {
    // The first lease comes during the second pause.
    if (time.pauses.length === 1) for (const lease of ['a.1', 'b.2', 'c.3']) board.add(lease, 1)
    return time.after(ms, run)
  }
  const input = { engineUrl: '', key: undefined, worker: WORKER, board: board.memory, leaseMs: LEASE_MS }
  const source = { turn } as unknown as TaskSource
  await renewLeases(source, input, stop.signal, (leases) => lost.push(leases), { now: time.now, after })
  expect(time.pauses).toEqual([500, 500, 500])
  expect(asked).toEqual([
    [0, 'a.1', 'b.2', 'c.3'],
    [0, 'a.1', 'b.2', 'c.3'],
  ])
  expect(lost).toEqual([['b.2'], ['b.2']])
  const isHeld = (lease: string, slot: number) => isHeldOn(board.memory, { slot, lease }, time.at)
  expect([isHeld('a.1', 0), isHeld('b.2', 1), isHeld('c.3', 2)]).toEqual([true, false, true])
})

it('keeps the leases during an outage of the store, however long', async () => {
  const time = new StepTime()
  const lost = await renew(time, 100, async () => {
    throw new XQueueError('engine_unavailable', 'away')
  })
  expect(time.at).toBeGreaterThan(3 * LEASE_MS)
  expect(lost).toEqual([])
})

it('keeps the leases during an outage in which the store is slow to refuse', async () => {
  const time = new StepTime()
  const lost = await renew(time, 50, async () => {
    for (let tick = 0; tick < 5; tick++) await new Promise(setImmediate)
    throw new XQueueError('engine_unavailable', 'away')
  })
  expect(time.at).toBeGreaterThan(LEASE_MS)
  expect(lost).toEqual([])
})

it('gives up leases that are over after a standstill if the store does not answer', async () => {
  const time = new StepTime()
  const answer = Promise.withResolvers<number>()
  const renewing = renew(time, 3, async (call) => {
    if (call === 1) time.late = 2 * LEASE_MS
    // The standstill was in the pause before the second call.
    return call === 2 ? answer.promise : time.at + LEASE_MS
  })
  await vi.waitFor(() => expect(time.pauses.filter((ms) => ms === 50)).toHaveLength(1))
  answer.resolve(time.at + LEASE_MS)
  expect(await renewing).toEqual(['task.1'])
})

it('keeps leases that the store confirms after a standstill', async () => {
  const time = new StepTime()
  const lost = await renew(time, 4, async (call) => {
    if (call === 1) time.late = 2 * LEASE_MS
    return time.at + LEASE_MS
  })
  expect(lost).toEqual([])
})

it('replaces a renewal thread that has failed', async () => {
  const folder = temporaryFolder()
  const real = join(folder, 'real')
  mkdirSync(real)
  const queue = await openTestQueue(`sqlite:${join(real, 'x.db')}`, { leaseMs: LEASE_MS })
  await queue.configureType('t', { declared: true })
  await queue.submit([completeSpec({ type: 't' })])
  const { leases } = await queue.turn({ worker: WORKER, want: 1 })
  const { lease, expiresAt } = leases[0]!
  const board = new SharedLeases(1)
  board.add(lease, expiresAt)
  const log: string[] = []
  const logger = pino({}, { write: (line) => void log.push(line) })
  const engineUrl = `sqlite:${join(folder, 'away', 'x.db')}`
  const renewal = { engineUrl, key: undefined, worker: WORKER, board: board.memory, leaseMs: LEASE_MS }
  const stop = PROCESS.renew({ ...renewal, queue, logger, lost: () => undefined })
  try {
    await vi.waitFor(() => expect(log.join()).toContain('the renewal thread failed'), { timeout: 20_000 })
    symlinkSync(real, join(folder, 'away'))
    await vi.waitFor(
      async () => {
        const [info] = await queue.types({ names: ['t'], holders: true })
        expect(info!.holders[0]!.expiresAt).toBeGreaterThan(expiresAt)
      },
      { timeout: 20_000 },
    )
  } finally {
    await stop()
  }
})
