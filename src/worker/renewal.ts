import type { Queue, WorkerIdentity } from '../queue/queue.ts'
import { MACHINE_TIME, pause } from '../task/time.ts'
import { tokensOn } from './shared-leases.ts'

/** Data of the renewal thread. */
export interface RenewalInput {
  engineUrl: string
  worker: WorkerIdentity
  board: SharedArrayBuffer
  leaseMs: number
}

/**
 * Renews all shared leases three times per lease until `signal` aborts. Runs in its own thread, so that a handler that
 * blocks its event loop keeps its lease. A failed renewal is repeated soon, while the lease is still valid.
 *
 * @param lost receives leases that are no longer held
 */
export async function renewLeases(
  queue: Queue,
  { worker, board, leaseMs }: RenewalInput,
  signal: AbortSignal,
  lost: (leases: string[]) => void,
  after = MACHINE_TIME.after,
): Promise<void> {
  let pauseMs = leaseMs / 3
  while (!signal.aborted) {
    await pause(pauseMs, after, signal)
    const leases = signal.aborted ? [] : tokensOn(board)
    if (leases.length === 0) continue
    try {
      const { renewed } = await queue.turn({ worker, want: 0, renewals: leases.map((lease) => ({ lease })) })
      const gone = leases.filter((_, index) => renewed[index] === null)
      if (gone.length > 0) lost(gone)
      pauseMs = leaseMs / 3
    } catch {
      pauseMs = leaseMs / 30 // The store is unavailable; the worker's turns log it.
    }
  }
}
