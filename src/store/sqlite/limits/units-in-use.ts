import type { Uses } from '../../../task/uses.ts'
import type { Database } from '../database/database.ts'
import { usesOf } from '../records/rows.ts'

/**
 * The units in use of each limit: the sum over the tasks in flight, which are the permits. It is read from these tasks,
 * and then changed with each start and end of this process; a write of another process or a rollback makes it unknown.
 */
export class UnitsInUse {
  readonly #database: Database
  /** By limit; null: not known. */
  #units: Map<string, number> | null = null
  /** Starts less ends since then, by uses: most tasks of a claim use the same. */
  readonly #changes = new Map<Uses, number>()

  constructor(database: Database) {
    this.#database = database
  }

  forget(): void {
    this.#units = null
    this.#changes.clear()
  }

  of(limit: string): number {
    return this.#known().get(limit) ?? 0
  }

  /** The limits of which any unit is in use. */
  limits(): string[] {
    return [...this.#known().keys()]
  }

  /** Tasks have started, or have ended if it is negative. */
  change(uses: Uses, tasks: number): void {
    if (this.#units !== null) this.#changes.set(uses, (this.#changes.get(uses) ?? 0) + tasks)
  }

  #known(): Map<string, number> {
    const units = this.#units ?? new Map<string, number>()
    if (this.#units === null) {
      for (const { uses, n } of this.#database.all('usesInFlight')) this.#add(units, usesOf(uses), n as number)
      this.#units = units
    }
    for (const [uses, tasks] of this.#changes) if (tasks !== 0) this.#add(units, uses, tasks)
    this.#changes.clear()
    return units
  }

  #add(units: Map<string, number>, uses: Uses, tasks: number): void {
    for (const limit in uses) {
      const inUse = (units.get(limit) ?? 0) + uses[limit]! * tasks
      if (inUse === 0) units.delete(limit)
      else units.set(limit, inUse)
    }
  }
}
