import type { Queue } from '../queue/queue.ts'
import type { CallRate } from '../task/api-key.ts'

/** The longest window, and the most calls in it, that a key may have. */
export const CALL_RATE_LIMITS = { max: 100_000, perMs: 86_400_000 } as const
/** Number of remembered keys above which idle ones are dropped. */
const REMEMBERED_MAX = 1_000

interface Calls {
  /** Calls that wait for a decision. */
  waiting: PromiseWithResolvers<number>[]
  isAsking: boolean
  /** Time before which the store allows no call. */
  refusedUntil: number
}

/**
 * Enforces the rate of a key, exact over all processes, because the store counts. Calls of a key that arrive during a
 * query share the next one, and no query is made before the time that the store has given.
 */
export class CallRates {
  readonly #queue: Pick<Queue, 'countCalls'>
  readonly #calls = new Map<string, Calls>()

  constructor(queue: Pick<Queue, 'countCalls'>) {
    this.#queue = queue
  }

  /**
   * Counts a call. If the rate is exceeded, returns the milliseconds until the next call is allowed.
   * @throws XQueueError `engine_unavailable`
   */
  count(id: string, rate: CallRate): Promise<number> {
    const calls = this.#callsOf(id)
    const left = calls.refusedUntil - performance.now()
    if (left > 0) return Promise.resolve(left)
    const call = Promise.withResolvers<number>()
    calls.waiting.push(call)
    if (!calls.isAsking) void this.#ask(id, rate, calls)
    return call.promise
  }

  async #ask(id: string, rate: CallRate, calls: Calls): Promise<void> {
    calls.isAsking = true
    while (calls.waiting.length > 0) {
      const asked = calls.waiting.splice(0)
      try {
        const { allowed, nextInMs } = await this.#queue.countCalls(id, rate, asked.length)
        if (allowed < asked.length) calls.refusedUntil = performance.now() + nextInMs
        for (const [index, { resolve }] of asked.entries()) resolve(index < allowed ? 0 : Math.max(1, nextInMs))
      } catch (error) {
        for (const { reject } of asked) reject(error)
      }
    }
    calls.isAsking = false
  }

  #callsOf(id: string): Calls {
    const known = this.#calls.get(id)
    if (known) return known
    if (this.#calls.size >= REMEMBERED_MAX) this.#forgetIdle()
    const calls: Calls = { waiting: [], isAsking: false, refusedUntil: 0 }
    this.#calls.set(id, calls)
    return calls
  }

  #forgetIdle(): void {
    const now = performance.now()
    for (const [id, { isAsking, refusedUntil }] of this.#calls) {
      if (!isAsking && refusedUntil <= now) this.#calls.delete(id)
    }
  }
}
