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
 * Repeats a reading of a wait while the server refuses it for now, and while a server that was reached before is away.
 *
 * @throws the last error of an absence after a minute, other errors at once, and the reason of `signal` when it aborts
 */
export async function readPatiently<T>(
  read: () => Promise<T>,
  { signal, onAway, wasReached = true }: Patience & { wasReached?: boolean } = {},
): Promise<T> {
  let giveUpAt: number | null = null
  for (;;) {
    try {
      return await read()
    } catch (error) {
      if (isRefusedForNow(error)) {
        giveUpAt = null
        await pauseAsTold(error, signal)
        continue
      }
      if (!(wasReached && isAway(error))) throw error
      if (giveUpAt === null) onAway?.(error)
      giveUpAt ??= performance.now() + AWAY_MS_MAX
      if (performance.now() > giveUpAt) throw error
      await pause(AGAIN_MS, MACHINE_TIME.after, signal)
      signal?.throwIfAborted()
    }
  }
}

/** Waits for as long as the server has said. */
export async function pauseAsTold(error: XQueueError, signal?: AbortSignal): Promise<void> {
  await pause(msAsTold(error), MACHINE_TIME.after, signal)
  signal?.throwIfAborted()
}

/** Longer than told, so that not all return at once. */
export function msAsTold({ retryAfter }: XQueueError): number {
  return (retryAfter ?? 1) * 1_000 * (1 + Math.random() / 5)
}

/** The server is stopped, or starts again. */
export function isAway(error: unknown): error is XQueueError {
  return error instanceof XQueueError && ['engine_unavailable', 'shutting_down'].includes(error.code)
}

/** The caller has too many event streams or calls. */
export function isRefusedForNow(error: unknown): error is XQueueError {
  return error instanceof XQueueError && ['too_many_calls', 'overloaded'].includes(error.code)
}
