/** An attempt longer than this ends claiming ahead. */
const QUICK_MS = 5
/** Maximum work that is held but not started. */
const HELD_MS = 5
/** Number of fast attempts before claiming ahead, so that a worker after a crash claims only tasks that it runs. */
const QUICK_MIN = 100
const WEIGHT = 1 / 32

/**
 * Measures how fast this worker's handlers end. If they take no longer than a round trip to the store, the round trip
 * dominates; then the worker holds further tasks, which start when slots become free.
 */
export class Prefetch {
  readonly #concurrency: number
  readonly #aheadMax: number
  #quick = 0
  #meanMs = QUICK_MS

  constructor(concurrency: number, aheadMax: number) {
    this.#concurrency = concurrency
    this.#aheadMax = aheadMax
  }

  /** Records the duration of an attempt. */
  ended(ms: number): void {
    this.#quick = ms > QUICK_MS ? 0 : this.#quick + 1
    this.#meanMs += (ms - this.#meanMs) * WEIGHT
  }

  /** Held tasks have not started in time. */
  slow(): void {
    this.#quick = 0
  }

  /** Number of tasks to hold beside the running ones. */
  ahead(): number {
    if (this.#quick < QUICK_MIN) return 0
    return Math.min(this.#aheadMax, Math.floor((HELD_MS * this.#concurrency) / Math.max(this.#meanMs, 0.01)))
  }
}
