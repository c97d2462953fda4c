import type { WorkerIdentity } from '../queue/queue.ts'
import { MACHINE_TIME, pause, type Time } from '../task/time.ts'
import { extend, isHeldOn, leasesOn } from './shared-leases.ts'
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
/** Time for an answer when the process stood still for longer than its leases. */
const ANSWER_MS_MAX = 50
/** A pause that takes longer than this, and than twice its length, shows that the process stood still. */
const STILL_MS_MIN = 500
/** Pause before the next renewal when the leases were over before their answer was read. */
const AT_ONCE_MS = 10

/**
 * Renews all shared leases three times per lease until `signal` aborts. Runs in its own thread, so that a handler that
 * blocks its event loop keeps its lease. A failed renewal is repeated soon, while the lease is still valid.
 *
 * When the process stood still (SIGSTOP, a frozen container) until leases were over, it asks at once; leases that are
 * not confirmed in `ANSWER_MS_MAX` count as lost. An outage of the store alone ends no lease, because no other worker
 * gets the tasks.
 *
 * @param lost receives leases that are no longer held
 */
export async function renewLeases(
  queue: Pick<TaskSource, 'turn'>,
  { worker, board, leaseMs, key }: RenewalInput,
  signal: AbortSignal,
  lost: (leases: string[]) => void,
  { after, now }: Pick<Time, 'after' | 'now'> = MACHINE_TIME,
): Promise<void> {
  const isRemote = key !== undefined
  let usualMs = isRemote ? FIRST_REMOTE_MS : leaseMs / 3
  // This thread may have taken long to start, or stood still meanwhile.
  let pauseMs = leasesOn(board).length > 0 ? 0 : usualMs
  while (!signal.aborted) {
    const before = now()
    await pause(pauseMs, after, signal)
    const leases = signal.aborted ? [] : leasesOn(board)
    if (leases.length === 0) {
      pauseMs = usualMs
      continue
    }
    const stoodStill = now() - before > Math.max(2 * pauseMs, STILL_MS_MIN)
    const over = stoodStill ? leases.filter((one) => !isHeldOn(board, one, now())) : []
    const callOff = over.length > 0 ? after(ANSWER_MS_MAX, () => lost(over.map(({ lease }) => lease))) : undefined
    try {
      const { renewed } = await queue.turn({ worker, want: 0, renewals: leases.map(({ lease }) => ({ lease })) })
      const gone = leases.filter((_, index) => renewed[index] === null)
      if (gone.length > 0) lost(gone.map(({ lease }) => lease))
      const ends = renewed.flatMap((one) => one?.expiresAt ?? [])
      renewed.forEach((one, index) => {
        if (one) extend(board, leases[index]!, one.expiresAt)
      })
      if (isRemote && ends.length > 0) usualMs = Math.max((Math.min(...ends) - now()) / 3, REMOTE_MS_MIN)
      pauseMs = Math.min(...ends) <= now() ? AT_ONCE_MS : usualMs
    } catch {
      pauseMs = Math.min(usualMs, leaseMs / 30) // The store is unavailable; the worker's turns log it.
    } finally {
      callOff?.()
    }
  }
}
