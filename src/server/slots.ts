import { XQueueError } from '../task/errors.ts'

/**
 * Runs a bounded number of jobs at the same time, the others in their order. Between two of them other calls are
 * handled, because some jobs take all of the event loop's time.
 */
export class Slots {
  readonly #waitMs: number
  readonly #waiting = new Set<() => void>()
  #free: number

  /** @param waitMs how long a job waits at most */
  constructor(count: number, waitMs: number) {
    this.#free = count
    this.#waitMs = waitMs
  }

  /** @throws XQueueError `overloaded` if the job would have to wait for longer, and what the job throws */
  async run<T>(job: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free -= 1
    else await this.#next()
    try {
      return await job()
    } finally {
      setImmediate(() => this.#release())
    }
  }

  #next(): Promise<void> {
    const turn = Promise.withResolvers<void>()
    const begin = () => {
      clearTimeout(timer)
      turn.resolve()
    }
    const timer = setTimeout(() => {
      this.#waiting.delete(begin)
      const detail = 'too many of these calls are under way: repeat the call after the time in Retry-After'
      turn.reject(new XQueueError('overloaded', detail, { retry_after: 1 }))
    }, this.#waitMs)
    this.#waiting.add(begin)
    return turn.promise
  }

  #release(): void {
    const [next] = this.#waiting
    if (!next) {
      this.#free += 1
      return
    }
    this.#waiting.delete(next)
    next()
  }
}
