/**
 * Prefixes that one store after the other uses. Redis compiles the functions of a store anew for each prefix, and Kafka
 * creates topics, so a store with a prefix of its own for each test would cost more than most tests.
 */
export class Prefixes {
  readonly #free: string[] = []
  #made = 0

  take(): string {
    return this.#free.pop() ?? `test${++this.#made}`
  }

  /** Its store must be closed and empty. */
  giveBack(prefix: string): void {
    this.#free.push(prefix)
  }
}
