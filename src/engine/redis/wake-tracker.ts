/** What a process waits for is asked for again after this long, should a message have been lost. */
const BELIEVE_MS = 20_000

/**
 * What this process was told by messages, and will be. A message may come before the answer to what was asked earlier,
 * on another connection: then the answer is out of date, and whoever asked asks again.
 */
export class WakeTracker {
  /** Types that Redis will tell this process of, and since when. */
  readonly #expected = new Map<string, number>()
  readonly #lastOf = new Map<string, number>()
  /** How much was heard so far. */
  count = 0

  /** There is news of a type or a worker: Redis will not tell this process again unless it is asked to. */
  hear(name: string): void {
    this.#expected.delete(name)
    this.count += 1
    this.#lastOf.set(name, this.count)
  }

  /** Whether there was news of any of them since `count` was that. */
  hasHeard(names: Iterable<string>, since: number): boolean {
    if (this.count === since) return false
    for (const name of names) if ((this.#lastOf.get(name) ?? 0) > since) return true
    return false
  }

  /** Redis was asked, when `count` was that, to tell of these types. */
  expect(types: readonly string[], since: number): void {
    for (const type of types) if (!this.hasHeard([type], since)) this.#expected.set(type, Date.now())
  }

  isExpected(types: readonly string[]): boolean {
    const now = Date.now()
    return types.length > 0 && types.every((type) => now - (this.#expected.get(type) ?? 0) < BELIEVE_MS)
  }

  /** Messages may have been lost: nothing is to be believed, and everything is news. */
  doubt(types: readonly string[]): void {
    for (const type of [...this.#expected.keys(), ...types]) this.hear(type)
  }
}

/** The name that news of a worker goes by; types have no spaces. */
export function newsOf(workerId: string): string {
  return `worker ${workerId}`
}
