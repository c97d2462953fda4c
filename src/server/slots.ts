import { XQueueError } from '../task/errors.ts'

/** Libuv accepts one connection in each pass of the event loop (https://github.com/libuv/libuv/pull/3696). */
const PASSES_BETWEEN = 10

/**
 * Runs a bounded number of jobs at the same time, the others in their order. Between two of them other calls are
 * handled and new connections accepted, because some jobs take all of the event loop's time.
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
      afterPasses(this.#waiting.size === 0 ? 1 : PASSES_BETWEEN, () => this.#release())
    }
  }

  #next(): Promise<void> {
    const start = Promise.withResolvers<void>()
    const begin = () => {
      clearTimeout(timer)
      start.resolve()
    }
    const timer = setTimeout(() => {
      this.#waiting.delete(begin)
      const detail = 'too many of these calls are under way: repeat the call after the time in Retry-After'
      start.reject(new XQueueError('overloaded', detail, { retry_after: 1 }))
    }, this.#waitMs)
    this.#waiting.add(begin)
    return start.promise
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

function afterPasses(passes: number, run: () => void): void {
  setImmediate(() => (passes > 1 ? afterPasses(passes - 1, run) : run()))
}
