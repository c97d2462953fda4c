/** An attempt that takes longer ends claiming ahead. */
const QUICK_MS = 5
/** How much work may be held that has not begun. */
const HELD_MS = 5
/** So many quick attempts in a row come first: who has just started, perhaps after a crash, takes only what it runs. */
const QUICK_MIN = 100
const WEIGHT = 1 / 32

/**
 * How quickly this worker's handlers end. Where they take no longer than a trip to the engine, the trip is what a task
 * costs; then it pays to hold some tasks more than are running, which begin as slots come free.
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

  /** An attempt took that long. */
  ended(ms: number): void {
    this.#quick = ms > QUICK_MS ? 0 : this.#quick + 1
    this.#meanMs += (ms - this.#meanMs) * WEIGHT
  }

  /** What was held has not begun in time. */
  slow(): void {
    this.#quick = 0
  }

  /** So many tasks may be held beside those that run. */
  ahead(): number {
    if (this.#quick < QUICK_MIN) return 0
    return Math.min(this.#aheadMax, Math.floor((HELD_MS * this.#concurrency) / Math.max(this.#meanMs, 0.01)))
  }
}
