import type { CeilingChanges, Ceilings } from '../task/ceilings.ts'
import type { Json } from '../task/json.ts'
import type { Retention, RetentionChanges, TypeRetention } from '../task/retention.ts'
import type { RetryPolicy } from '../task/retry.ts'
import type { SpecDefaults } from '../task/task.ts'

/** What the port says of task types: part of engine.ts. */

/** What a handler says of its type; limits and rate hold until someone sets another at run time. */
export interface HandlerSettings {
  maxConcurrency: number | null
  groupConcurrency: number | null
  rate: Rate | null
  retry: RetryPolicy
  payloadSchema: Json
  defaults: SpecDefaults
  /** How long finished tasks are kept; left out: as the engine keeps those of any type. */
  retention?: Retention
}

export interface TypeChange {
  handler?: HandlerSettings
  /** Known for good, with or without workers. */
  declared?: boolean
  /** Integer ≥ 1, or null to remove the limit. Wins over the handler's from then on. */
  maxConcurrency?: number | null
  /** The same for each group of the type; tasks without a group are not limited by it. */
  groupConcurrency?: number | null
  /** Null removes it. Wins over the handler's from then on. */
  rate?: Rate | null
  paused?: boolean
  /** The most that tasks may ask for which are submitted from then on. */
  ceilings?: CeilingChanges
  /**
   * How long tasks are kept that end from then on in each final status, 0 to 366 days. Wins over the handler's. Those
   * that ended before stay as long as they were to stay then.
   */
  retention?: RetentionChanges
}

/**
 * At most `max` starts (1 to 1,000,000) in any window of `perMs` (1 to 86,400,000), over all processes: a start counts
 * from the moment a claim hands its task out until `perMs` later. Starts from before there was a rate do not count.
 */
export interface Rate {
  max: number
  perMs: number
}

/**
 * Workers that only name their types make no type beyond so many, counting those that were served lately. Declared
 * types and those of handlers always come into being. On Redis it holds for each partition.
 */
export const TYPES_NAMED_MAX = 1_000

export const RATE_LIMITS = { max: 1_000_000, perMs: 86_400_000 } as const

export interface TypeInfo {
  type: string
  /** Waiting, delayed and dependent ones included. */
  pending: number
  delayed: number
  /** Those that wait for other tasks. */
  dependent: number
  processing: number
  maxConcurrency: number | null
  groupConcurrency: number | null
  rate: Rate | null
  paused: boolean
  declared: boolean
  /** Live workers that run it. */
  workers: number
  /** Tasks finished per second over the last minute. */
  throughput: number
  waitMs: Percentiles | null
  runMs: Percentiles | null
  /** JSON Schema of the payload, if the handler's validator can tell it. */
  payloadSchema: Json
  /** What its handler says of tasks that do not say it themselves. */
  defaults: SpecDefaults
  /** As operators have set them. */
  ceilings: Ceilings
  retention: TypeRetention
  /** Live leases, oldest first, when asked for. */
  holders: Holder[]
}

/** Of the tasks that finished in the last few minutes. Milliseconds. */
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
