/** A process repeats the request for a wake-up after this time, in case a message was lost. */
const EXPECT_MS = 20_000

/**
 * The messages that this process has received and expects. A message may arrive before the answer to an earlier
 * request, on another connection: then the answer is out of date, and the caller asks again.
 */
export class WakeTracker {
  /** Types for which Redis will notify this process, and since when. */
  readonly #expected = new Map<string, number>()
  readonly #lastOf = new Map<string, number>()
  /** Number of messages so far. */
  count = 0

  /** A message about a type or a worker: Redis notifies this process again only after a new request. */
  receive(name: string): void {
    this.#expected.delete(name)
    this.count += 1
    this.#lastOf.set(name, this.count)
  }

  /** Whether there was a message about any of them since `count` had the value `since`. */
  hasNews(names: Iterable<string>, since: number): boolean {
    if (this.count === since) return false
    for (const name of names) if ((this.#lastOf.get(name) ?? 0) > since) return true
    return false
  }

  /** This process asked Redis, when `count` had the value `since`, for notification about these types. */
  expect(types: readonly string[], since: number): void {
    for (const type of types) if (!this.hasNews([type], since)) this.#expected.set(type, Date.now())
  }

  isExpected(types: readonly string[]): boolean {
    const now = Date.now()
    return types.length > 0 && types.every((type) => now - (this.#expected.get(type) ?? 0) < EXPECT_MS)
  }

  /** Messages may have been lost: expectations are dropped, and every name counts as news. */
  doubt(types: readonly string[]): void {
    for (const type of [...this.#expected.keys(), ...types]) this.receive(type)
  }
}

/** The name for news of a worker; types have no spaces. */
export function newsOf(workerId: string): string {
  return `worker ${workerId}`
}
