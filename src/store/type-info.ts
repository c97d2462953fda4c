import type { CeilingChanges } from '../task/ceilings.ts'
import type { Json } from '../task/json.ts'
import type { Retention, RetentionChanges } from '../task/retention.ts'
import type { RetryPolicy } from '../task/retry.ts'
import type { SpecDefaults } from '../task/task.ts'

/** Task types: part of the port in store.ts. */

/** What the groups of a type share fairly: the number of started tasks, or the running time of their tasks. */
export type GroupTurns = (typeof GROUP_TURNS)[number]
export const GROUP_TURNS = ['tasks', 'time'] as const

/** A handler's settings for its type; limits and rate apply until an operator sets others at run time. */
export interface HandlerSettings {
  maxConcurrency: number | null
  groupConcurrency: number | null
  /** Default `tasks`. */
  groupTurns?: GroupTurns
  rate: Rate | null
  retry: RetryPolicy
  payloadSchema: Json
  defaults: SpecDefaults
  /** Named limits that it declares, by name; they apply until an operator sets others. */
  limits?: Readonly<Record<string, LimitSettings>>
  /** Retention of finished tasks; if omitted, the store's default applies. */
  retention?: Retention
}

export interface TypeChange {
  handler?: HandlerSettings
  /** Permanently known, with or without workers. */
  declared?: boolean
  /** Integer ≥ 1, or null to remove the limit. Takes precedence over the handler's from then on. */
  maxConcurrency?: number | null
  /** The same for each group of the type; it does not limit tasks without a group. */
  groupConcurrency?: number | null
  /** Takes precedence over the handler's from then on. */
  groupTurns?: GroupTurns
  /** Null removes it. Takes precedence over the handler's from then on. */
  rate?: Rate | null
  paused?: boolean
  /** No task starts before this time; null ends the hold. */
  heldUntil?: number | null
  /** The maximum values that tasks submitted from then on may request. */
  ceilings?: CeilingChanges
  /**
   * Retention of tasks that end from then on, for each final status, 0 to 366 days. Takes precedence over the
   * handler's. Tasks that ended before keep their previous retention.
   */
  retention?: RetentionChanges
}

/** What a handler declares for a named limit. */
export interface LimitSettings {
  /** Units that may be held at once, from 1 to 1,000,000; null: any number. */
  max: number | null
  /** Units that may start in a window; null: any number. */
  rate: Rate | null
}

/** A change of a named limit. A handler, `max` or `rate` creates a limit that does not exist. */
export interface LimitChange {
  handler?: LimitSettings
  /** Null removes it. Takes precedence over the handler's from then on; so does `rate`. */
  max?: number | null
  rate?: Rate | null
  paused?: boolean
  /** No task that uses it starts before this time; null ends the hold. */
  heldUntil?: number | null
  /** Removes the limit, its log and its holds. @throws XQueueError `limit_in_use` while an unfinished task uses it */
  remove?: true
}

/** Maximum number of named limits. */
export const LIMITS_MAX = 10_000

/**
 * At most `max` starts (1 to 1,000,000) in any window of `perMs` (1 to 86,400,000), over all processes: a start counts
 * from the moment a claim delivers its task until `perMs` later. Starts from before the rate was set do not count.
 */
export interface Rate {
  max: number
  perMs: number
}

/**
 * Workers that only name their types create no more types than this, counting those that were served lately. Declared
 * types and types with handlers are always created. On Redis the limit applies to each partition.
 */
export const TYPES_NAMED_MAX = 1_000

export const RATE_LIMITS = { max: 1_000_000, perMs: 86_400_000 } as const

/** Durations of the tasks that finished in the last few minutes, in milliseconds. */
export interface Percentiles {
  p50: number
  p95: number
  p99: number
}

export interface Holder {
  taskId: string
  workerId: string
  since: number
  expiresAt: number
  group: string | null
}
