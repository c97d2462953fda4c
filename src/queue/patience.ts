import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import { XQueueError } from '../task/errors.ts'

const PAUSE_MS_MIN = 100
const PAUSE_MS_MAX = 2_000
const BUSY_CODES = [5, 6]

/**
 * Retries the calls that a process makes to its store at start-up, while the store is unavailable or locked by another
 * process. It logs one line at the beginning of the wait and one at its end.
 * @param waitMs total time to wait; null: for ever
 * @param stopping ends the wait, because the process shuts down
 * @throws errors that the store cannot recover from, at once; `engine_unavailable` when the time is over
 */
export class Patience {
  readonly #logger: Logger
  readonly #until: number
  readonly #stopping: AbortSignal | undefined
  #waitsSince: number | null = null

  constructor(waitMs: number | null, logger: Logger, stopping?: AbortSignal) {
    this.#logger = logger
    this.#stopping = stopping
    this.#until = waitMs === null ? Number.POSITIVE_INFINITY : performance.now() + waitMs
  }

  async with<T>(work: () => Promise<T>): Promise<T> {
    for (let pauseMs = PAUSE_MS_MIN; ; pauseMs = Math.min(pauseMs * 2, PAUSE_MS_MAX)) {
      this.#stopping?.throwIfAborted()
      try {
        return await work()
      } catch (error) {
        if (!passes(error) || performance.now() + pauseMs > this.#until) throw error
        if (this.#waitsSince === null) {
          const why = (error as Error).message
          this.#logger.warn({ why }, 'the store is unavailable or locked: the start-up waits for it (--store-wait)')
        }
        this.#waitsSince ??= performance.now()
        await sleep(pauseMs, undefined, this.#stopping && { signal: this.#stopping })
      }
    }
  }

  /** Ends the wait: the start-up is complete. */
  over(): void {
    if (this.#waitsSince === null) return
    const waitedMs = Math.round(performance.now() - this.#waitsSince)
    this.#logger.info({ waited_ms: waitedMs }, 'the store is available: the start-up continues')
  }
}

/**
 * A server that does not answer, or a file that another process has locked; not one that cannot be opened or written.
 */
function passes(error: unknown): boolean {
  if (!(error instanceof XQueueError) || error.code !== 'engine_unavailable') return false
  const { errcode } = (error.cause ?? {}) as { errcode?: number }
  return errcode === undefined || BUSY_CODES.includes(errcode & 0xff)
}
