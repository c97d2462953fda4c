import type { Database, Row } from '../database/database.ts'
import type { GroupLimit, Limits } from '../limits/limits.ts'
import { usesOf } from '../records/rows.ts'
import type { Registry } from '../types/types.ts'
import type { GroupScheduler } from './group-scheduler.ts'
import { merged } from './merged.ts'
import type { RateLog } from './rate-log.ts'

/** The tasks that a claim starts next. */
export interface Plan {
  seqs: number[]
  /** Whether tasks were taken out again, because the plans of several types together exceed a limit. */
  isCut: boolean
  /** The named limits that were checked. */
  checked: ReadonlySet<string>
}

/** Decides which tasks run next, within all limits. Changes no task. */
export class Planner {
  readonly #registry: Registry
  readonly #groups: GroupScheduler
  readonly #limits: Limits
  readonly #rateLog: RateLog

  constructor(registry: Registry, groups: GroupScheduler, limits: Limits, rateLog: RateLog) {
    this.#registry = registry
    this.#groups = groups
    this.#limits = limits
    this.#rateLog = rateLog
  }

  /** Whether a claim of the type would find a task, according to data that may be out of date. */
  canClaim(database: Database, type: string, now: number): boolean {
    if (!this.#registry.isOpen(type, now) || this.#permits(database, type, 1, now) <= 0) return false
    return database.all('heads', type, 1).length > 0 || this.#groups.mayServe(type)
  }

  /** The time from which a type's hold and its rate allow a start; null: now. */
  opensAt(type: string, now: number): number | null {
    const { rate = null, heldUntil = null } = this.#registry.rules(type) ?? {}
    const rateAt = rate && this.#rateLog.nextAt(type, rate, now)
    const at = Math.max(rateAt ?? 0, heldUntil ?? 0)
    return at > now ? at : null
  }

  /** The tasks to run next over all types: highest priority, then longest ready. */
  plan(database: Database, types: readonly string[], want: number, now: number, groups?: readonly string[]): Plan {
    const checked = new Set<string>()
    const perType = types.map((type) => {
      const free = this.#permits(database, type, want, now)
      if (free <= 0) return []
      const limit = this.groupLimit(type)
      const rooms = this.#limits.rooms(now)
      const heads = groups
        ? this.#groups.nextOf(groups, type, free, limit, rooms)
        : this.#groups.next(type, free, limit, rooms)
      for (const name of rooms.names) checked.add(name)
      return heads
    })
    const busy = perType.filter((heads) => heads.length > 0)
    const heads = busy.length === 1 ? busy[0]! : merged(busy, want)
    if (busy.length <= 1 || checked.size === 0) return { seqs: heads.map(seqOf), isCut: false, checked }
    // Each type was planned as if it were alone.
    const rooms = this.#limits.rooms(now)
    const allowed = heads.filter((row) => !row.uses || rooms.take(usesOf(row.uses)) === null)
    return { seqs: allowed.map(seqOf), isCut: allowed.length < heads.length, checked }
  }

  /** The number of ready tasks that could start now if there were workers, counted up to `most`. */
  startable(database: Database, type: string, most: number, now: number): number {
    if (!this.#registry.isOpen(type, now)) return 0
    const free = this.#permits(database, type, most, now)
    return free <= 0 ? 0 : this.#groups.startable(type, free, this.groupLimit(type), this.#limits.rooms(now))
  }

  groupLimit(type: string): GroupLimit {
    return this.#limits.ofGroups(type, this.#registry.rules(type)?.groupConcurrency ?? null)
  }

  /** The number of tasks of a type that its limit and its rate let start now, at most `want`; 0 or less for none. */
  #permits(database: Database, type: string, want: number, now: number): number {
    const { maxConcurrency, rate } = this.#registry.rules(type)!
    const free = maxConcurrency === null ? want : maxConcurrency - (database.get('inFlight', type)!.n as number)
    if (rate === null || free <= 0) return Math.min(want, free)
    return Math.min(want, free, this.#rateLog.allows(type, rate, now))
  }
}

function seqOf({ seq }: Row): number {
  return seq as number
}
