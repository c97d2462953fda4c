import type { Engine, WorkerIdentity } from '../engine/engine.ts'
import { MACHINE_TIME, pause } from '../task/time.ts'
import { tokensOn } from './shared-leases.ts'

/** What the renewal thread is started with. */
export interface RenewalInput {
  engineUrl: string
  worker: WorkerIdentity
  board: SharedArrayBuffer
  leaseMs: number
}

/**
 * Renews all leases on the board three times per lease, until `signal` fires. Runs in a thread of its own, so that a
 * handler that blocks its event loop does not lose its lease. A renewal that fails is tried again soon: the lease
 * lives on for a while.
 *
 * @param lost is told the leases that are no longer held
 */
export async function renewLeases(
  engine: Engine,
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
      const { renewed } = await engine.turn({ worker, want: 0, renewals: leases.map((lease) => ({ lease })) })
      const gone = leases.filter((_, index) => renewed[index] === null)
      if (gone.length > 0) lost(gone)
      pauseMs = leaseMs / 3
    } catch {
      pauseMs = leaseMs / 30 // The engine is away; the worker's own turns log it.
    }
  }
}
