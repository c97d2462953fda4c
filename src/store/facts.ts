import type { Ceilings } from '../task/ceilings.ts'
import type { Json } from '../task/json.ts'
import type { TypeRetention } from '../task/retention.ts'
import type { StoredStatus } from '../task/status.ts'
import type { SpecDefaults, Task } from '../task/task.ts'
import type { LimitRecord } from './limit-record.ts'
import type { RecentRates } from './rates.ts'
import type { StreamInfo } from './stats.ts'
import type { GroupTurns, Holder, Rate } from './type-info.ts'

/** Facts about types, workers and a task, as `Store.inspect` reads them: part of the port in store.ts. */

export interface InspectQuery {
  /** The types to read; default all. `[]`: only the workers, or with `limits` only these. */
  types?: readonly string[]
  /** A task to read, with its type instead of `types`. */
  task?: string
  /** Maximum number of its successors; default 0. */
  successors?: number
  /** Includes the settings of the types. */
  settings?: boolean
  /** Includes the holders of the types' permits, and when their rates allow the next start. */
  holders?: boolean
  /**
   * The named limits to read, or all that have settings; default none. With `task`, those that it uses, and their
   * `nextStartAt` is that of the task.
   */
  limits?: readonly string[] | 'all'
  /** Includes the tasks that could start. */
  demand?: boolean
  /** Includes the waiting work in the store's own terms. */
  stream?: boolean
}

export interface Facts {
  /** The time of the store's clock. */
  now: number
  /** In the order of their names. */
  types: TypeFacts[]
  workers: WorkerInfo[]
  /** The parts of the store that hold unfinished tasks. */
  lanes: { name: string; length: number }[]
  limits: LimitFacts[]
  /** If requested, and if the task exists. */
  task: TaskFacts | null
  /** If requested, and if the store has other terms than lanes and workers. */
  stream: Omit<StreamInfo, 'length'> | null
}

export interface TypeFacts {
  type: string
  /** Whether tasks of it may be submitted. */
  isKnown: boolean
  /** Kept tasks, by the status that they are stored with. */
  counts: Readonly<Record<StoredStatus, number>>
  maxConcurrency: number | null
  groupConcurrency: number | null
  groupTurns: GroupTurns
  rate: Rate | null
  paused: boolean
  /** No task starts before this time; null: it is not held. */
  heldUntil: number | null
  declared: boolean
  recent: RecentRates
  settings: TypeSettings | null
  /** Live leases, oldest first, at most 1,000. */
  holders: Holder[]
  /** The time at which its rate allows the next start; null: now. */
  nextStartAt: number | null
  /** If requested: ready tasks that all limits allow to start now, if there were workers, counted up to 10,000. */
  startable: number
}

/** A named limit; for `tenant/acme` without settings of its own, with those of `tenant/*`. */
export interface LimitFacts extends LimitRecord {
  name: string
  /** Units that running tasks hold; null for the settings of all keys and for a group. */
  inUse: number | null
  /** Waiting tasks that use it and are ready, counted up to 10,000; null likewise. */
  waiting: number | null
  /** The time at which its hold or its rate allows the next unit to start; null: now. */
  nextStartAt: number | null
  /** If requested: live leases, oldest first, at most 1,000. */
  holders: LimitHolder[]
  /** If requested: ids of ready tasks that use it, at most 100. */
  waiters: readonly string[]
}

export interface LimitHolder extends Holder {
  type: string
  units: number
}

export interface TypeSettings {
  payloadSchema: Json
  defaults: SpecDefaults
  ceilings: Ceilings
  retention: TypeRetention
}

export interface TaskFacts {
  task: Task
  /** If it is ready: the number of tasks of its type that run before it, at most 10,000. */
  ahead: number
  /** The predecessors that it still waits for. */
  waitsFor: readonly string[]
  /**
   * The tasks that name it in `after` and that its end has not released, oldest first, as many as requested: those
   * that wait for it, and those that were canceled meanwhile.
   */
  successors: readonly string[]
  /** The limit of its group, which may have its own; null: none. */
  groupLimit: number | null
  /** Those of the type's holders that hold a permit of the task's group. */
  holdersOfGroup: Holder[]
}

export interface WorkerIdentity {
  id: string
  /** Empty: unknown, as that of a worker over HTTP. */
  host: string
  /** 0: unknown. */
  pid: number
  types: readonly string[]
  /** Number of tasks that it runs at once. */
  concurrency: number
  startedAt: number
}

export interface WorkerInfo extends WorkerIdentity {
  running: number
  lastSeen: number
  /** Attempts that ended in success, and attempts that ended otherwise, since it started. */
  processed: number
  failed: number
}
