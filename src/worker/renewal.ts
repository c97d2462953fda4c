import type { WorkerIdentity } from '../queue/queue.ts'
import { MACHINE_TIME, pause } from '../task/time.ts'
import { tokensOn } from './shared-leases.ts'
import type { TaskSource } from './task-source.ts'

/** Data of the renewal thread. */
export interface RenewalInput {
  engineUrl: string
  /** Of a server; undefined for a store. */
  key: string | null | undefined
  worker: WorkerIdentity
  board: SharedArrayBuffer
  leaseMs: number
}

/** A server has its own duration of leases, which its answers say; a worker learns it from an early renewal. */
const FIRST_REMOTE_MS = 200
const REMOTE_MS_MIN = 200

/**
 * Renews all shared leases three times per lease until `signal` aborts. Runs in its own thread, so that a handler that
 * blocks its event loop keeps its lease. A failed renewal is repeated soon, while the lease is still valid.
 *
 * @param lost receives leases that are no longer held
 */
export async function renewLeases(
  queue: TaskSource,
  { worker, board, leaseMs, key }: RenewalInput,
  signal: AbortSignal,
  lost: (leases: string[]) => void,
  after = MACHINE_TIME.after,
): Promise<void> {
  const isRemote = key !== undefined
  let pauseMs = isRemote ? FIRST_REMOTE_MS : leaseMs / 3
  while (!signal.aborted) {
    await pause(pauseMs, after, signal)
    const leases = signal.aborted ? [] : tokensOn(board)
    if (leases.length === 0) continue
    try {
      const { renewed } = await queue.turn({ worker, want: 0, renewals: leases.map((lease) => ({ lease })) })
      const gone = leases.filter((_, index) => renewed[index] === null)
      if (gone.length > 0) lost(gone)
      if (!isRemote) pauseMs = leaseMs / 3
      else
        pauseMs = thirdOf(
          renewed.map((one) => one?.expiresAt),
          pauseMs,
        )
    } catch {
      pauseMs = Math.min(pauseMs, leaseMs / 30) // The store is unavailable; the worker's turns log it.
    }
  }
}

/** A third of the time that the first of these leases has left. */
function thirdOf(ends: readonly (number | undefined)[], before: number): number {
  const known = ends.filter((end) => end !== undefined)
  return known.length === 0 ? before : Math.max((Math.min(...known) - Date.now()) / 3, REMOTE_MS_MIN)
}
