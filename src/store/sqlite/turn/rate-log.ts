import type { CallRate } from '../../../task/api-key.ts'
import type { CallsCounted, Rate } from '../../store.ts'
import type { Database } from '../database/database.ts'

/**
 * Calls of an API key are logged as starts under this prefix and its id; the spaces rule out a type of the same name.
 */
const CALLS_OF = 'calls of '
/** The longest window of a key's call rate. */
const WINDOW_MS_MAX = 86_400_000
const FORGET_EVERY_MS = 600_000

/**
 * The starts of the types that have a rate, over all processes. A start at `t` counts until `t + perMs`, so that no
 * window of `perMs` ever holds more than `max`. Reading and logging cost the same regardless of the number of starts.
 */
export class RateLog {
  readonly #database: Database
  readonly #forgotAt = new Map<string, number>()

  constructor(database: Database) {
    this.#database = database
  }

  /** The number of tasks that may start now. */
  allows(type: string, { max, perMs }: Rate, now: number): number {
    return max - (this.#database.get('startsSince', type, now - perMs)!.n as number)
  }

  /** The time at which so many may start; null: now, or never because the rate is lower. */
  nextAt(type: string, rate: Rate, now: number, units = 1): number | null {
    if (units > rate.max || this.allows(type, rate, now) >= units) return null
    return (this.#database.get('startBack', type, rate.max - units + 1)!.at as number) + rate.perMs
  }

  /** Counts new starts, and removes some of those that no longer count. */
  add(type: string, { perMs }: Rate, now: number, count: number): void {
    this.#database.run('logStarts', type, now, count)
    this.#database.run('trimStarts', type, now - perMs)
  }

  /** Counts calls of an API key, as many as its rate allows. */
  count(key: string, rate: CallRate, calls: number, now: number): CallsCounted {
    this.forgetIdle(CALLS_OF, now)
    const name = CALLS_OF + key
    // The clock was set back since these calls were logged, so their times are unknown.
    if ((this.#database.get('lastStart', name)!.at as number) > now + rate.perMs) this.#database.run('dropStarts', name)
    const allowed = Math.max(0, Math.min(calls, this.allows(name, rate, now)))
    if (allowed > 0) this.add(name, rate, now, allowed)
    return { allowed, nextInMs: allowed < calls ? this.nextAt(name, rate, now)! - now : 0 }
  }

  /**
   * Removes logs of names that begin with a prefix and whose windows are over, a bounded number at a time: what they
   * are of may have been removed.
   */
  forgetIdle(prefix: string, now: number): void {
    if (Math.abs(now - (this.#forgotAt.get(prefix) ?? 0)) < FORGET_EVERY_MS) return
    this.#forgotAt.set(prefix, now)
    for (const { type } of this.#database.all('idleStarts', prefix, now - WINDOW_MS_MAX)) {
      this.#database.run('forgetStarts', type as string)
    }
  }
}
