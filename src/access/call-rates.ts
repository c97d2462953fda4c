import type { CallRate } from '../task/api-key.ts'

/** The longest list of calls that is kept for a key. */
export const CALL_RATE_LIMITS = { max: 100_000, perMs: 86_400_000 } as const

/**
 * Whether a key has calls left, exactly: of its last `max` calls the oldest must be older than the window. Each process
 * counts for itself.
 */
export class CallRates {
  readonly #calls = new Map<string, { at: Float64Array; next: number; perMs: number }>()

  /** Counts a call, unless it is one too many: then it answers after how many milliseconds the next one may come. */
  count(id: string, { max, perMs }: CallRate, now: number): number {
    let calls = this.#calls.get(id)
    if (!calls || calls.at.length !== max) {
      this.#forgetQuiet(now)
      calls = { at: new Float64Array(max).fill(Number.NEGATIVE_INFINITY), next: 0, perMs }
      this.#calls.set(id, calls)
    }
    const oldest = calls.at[calls.next]!
    if (oldest + perMs > now) return oldest + perMs - now
    calls.at[calls.next] = now
    calls.next = (calls.next + 1) % max
    return 0
  }

  /** Keys none of whose calls count any longer. */
  #forgetQuiet(now: number): void {
    for (const [id, { at, next, perMs }] of this.#calls) {
      const latest = at.at(next - 1)!
      if (latest + perMs <= now) this.#calls.delete(id)
    }
  }
}
