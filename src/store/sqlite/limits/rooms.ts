import type { Uses } from '../../../task/uses.ts'

/** The limit in the way of a task, the units that it needs, and when it may have them, if time alone decides. */
export interface Block {
  limit: string
  need: number
  until: number | null
}

/** What a plan has to know of the limits. */
interface Limits {
  room(limit: string, now: number): number
  opensAt(limit: string, units: number, now: number): number | null
}

/** The units that one plan may still start, by limit: what the limits have left, less what the plan has taken. */
export class Rooms {
  readonly #limits: Limits
  readonly #now: number
  readonly #left = new Map<string, number>()

  constructor(limits: Limits, now: number) {
    this.#limits = limits
    this.#now = now
  }

  /** The limits that were checked. */
  get names(): Iterable<string> {
    return this.#left.keys()
  }

  /** Limits of a lane that takes nothing. */
  check(limits: readonly string[]): void {
    for (const limit of limits) this.#leftOf(limit)
  }

  /** How many tasks with the same uses there is room for, at most `most`; takes their units. */
  takeMany(uses: Uses, most: number): number {
    let tasks = most
    for (const limit in uses) tasks = Math.min(tasks, Math.floor(this.#leftOf(limit) / uses[limit]!))
    if (tasks <= 0) return 0
    for (const limit in uses) this.#left.set(limit, this.#leftOf(limit) - uses[limit]! * tasks)
    return tasks
  }

  /** The first limit in the way; null if there is none, and then the units are taken. */
  take(uses: Uses): Block | null {
    // Others that it uses may have room for other lanes.
    this.check(Object.keys(uses))
    for (const limit in uses) {
      const need = uses[limit]!
      if (this.#leftOf(limit) < need) return { limit, need, until: this.#limits.opensAt(limit, need, this.#now) }
    }
    for (const limit in uses) this.#left.set(limit, this.#leftOf(limit) - uses[limit]!)
    return null
  }

  #leftOf(limit: string): number {
    let left = this.#left.get(limit)
    if (left === undefined) {
      left = this.#limits.room(limit, this.#now)
      this.#left.set(limit, left)
    }
    return left
  }
}
