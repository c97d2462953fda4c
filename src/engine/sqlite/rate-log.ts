import type { Rate } from '../engine.ts'
import type { Store } from './store.ts'

/**
 * The starts of the types that have a rate, over all processes. A start at `t` counts until `t + perMs`, so that no
 * window of `perMs` ever holds more than `max`. Looking and logging cost the same however many starts there were.
 */
export class RateLog {
  readonly #store: Store

  constructor(store: Store) {
    this.#store = store
  }

  /** How many may start now. */
  allows(type: string, { max, perMs }: Rate, now: number): number {
    return max - (this.#store.get('startsSince', type, now - perMs)!.n as number)
  }

  /** When the next one may start, or null: now. */
  nextAt(type: string, rate: Rate, now: number): number | null {
    if (this.allows(type, rate, now) > 0) return null
    return (this.#store.get('startBack', type, rate.max)!.at as number) + rate.perMs
  }

  /** Counts what was just started, and forgets some of what counts no more. */
  add(type: string, { perMs }: Rate, now: number, count: number): void {
    this.#store.run('logStarts', type, now, count)
    this.#store.run('trimStarts', type, now - perMs)
  }
}
