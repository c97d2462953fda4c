import type { Engine } from '../engine/engine.ts'
import type { CallRate } from '../task/api-key.ts'

/** The longest window, and the most calls in it, that a key may have. */
export const CALL_RATE_LIMITS = { max: 100_000, perMs: 86_400_000 } as const
/** So many keys are remembered before those are looked for that nothing is to be remembered of. */
const REMEMBERED_MAX = 1_000

interface Calls {
  /** What to tell each call that is not decided yet. */
  waiting: PromiseWithResolvers<number>[]
  isAsking: boolean
  /** The engine has said that it allows none before this. */
  refusedUntil: number
}

/**
 * Whether a key has calls left, exactly, over all processes: the engine counts. The calls of a key that come while an
 * answer is under way share the next question, and none is asked before the moment that the engine has named.
 */
export class CallRates {
  readonly #engine: Pick<Engine, 'countCalls'>
  readonly #calls = new Map<string, Calls>()

  constructor(engine: Pick<Engine, 'countCalls'>) {
    this.#engine = engine
  }

  /**
   * Counts a call, unless it is one too many: then it answers after how many milliseconds the next one may come.
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
        const { allowed, nextInMs } = await this.#engine.countCalls(id, rate, asked.length)
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
