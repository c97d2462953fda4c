import { XQueueError } from '../task/errors.ts'
import { MACHINE_TIME, pause } from '../task/time.ts'

/** How long a wait goes on while the server is away: a restart takes less. */
const AWAY_MS_MAX = 60_000
const AGAIN_MS = 500

export interface Patience {
  signal?: AbortSignal | undefined
  /** Called with the first error of each absence. */
  onAway?: ((error: XQueueError) => void) | undefined
}

/**
 * Repeats a reading of a wait while the server is away.
 *
 * @throws its last error after a minute, other errors at once, and the reason of `signal` when it aborts
 */
export async function readPatiently<T>(read: () => Promise<T>, { signal, onAway }: Patience = {}): Promise<T> {
  let giveUpAt: number | null = null
  for (;;) {
    try {
      return await read()
    } catch (error) {
      if (!isAway(error)) throw error
      if (giveUpAt === null) onAway?.(error)
      giveUpAt ??= performance.now() + AWAY_MS_MAX
      if (performance.now() > giveUpAt) throw error
    }
    await pause(AGAIN_MS, MACHINE_TIME.after, signal)
    signal?.throwIfAborted()
  }
}

/** The server is stopped, or starts again. */
export function isAway(error: unknown): error is XQueueError {
  return error instanceof XQueueError && ['engine_unavailable', 'shutting_down'].includes(error.code)
}

/** The caller has too many event streams or calls. */
export function isRefusedForNow(error: unknown): error is XQueueError {
  return error instanceof XQueueError && ['too_many_calls', 'overloaded'].includes(error.code)
}
