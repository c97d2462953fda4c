import type { Restorable } from '../store/state.ts'
import type { Store, TypeChange, WorkerInfo } from '../store/store.ts'
import type { Changed, Which } from './changes.ts'
import type { Explanation } from './explanation.ts'
import type { Stats, TypeInfo } from './statistics.ts'

export {
  STORE_DEFAULTS as QUEUE_DEFAULTS,
  type StoreOptions as QueueOptions,
} from '../store/options.ts'
export {
  type CallsCounted,
  type ChangeOutcome,
  type EventsPage,
  type EventsQuery,
  type EventsReader,
  type HandlerSettings,
  type Health,
  type Holder,
  type KeyChange,
  type Keys,
  type Lease,
  type ListQuery,
  PAGE_BYTES_MAX,
  type Page,
  type PartitionInfo,
  type Percentiles,
  RATE_LIMITS,
  type Rate,
  type Renewed,
  type ScheduleChange,
  type Settled,
  type StreamInfo,
  type Submitted,
  type Swept,
  type TaskFilter,
  type Turn,
  type TurnAnswer,
  TYPES_NAMED_MAX,
  type TypeChange,
  type WorkerIdentity,
  type WorkerInfo,
} from '../store/store.ts'
export type { Changed, ChangePosition, ChangeResult, Which } from './changes.ts'
export type { Explanation } from './explanation.ts'
export type { Stats, TypeInfo } from './statistics.ts'

/**
 * The task queue as server, worker, client and CLI use it. `createQueue` implements it over any `Store`: the rules of
 * the product are in this folder, and stores carry out atomic steps. `test/queue-contract/` specifies every method, and
 * runs on every store.
 */
export interface Queue
  extends Pick<
    Store,
    | 'url'
    | 'turnsAtOnce'
    | 'submit'
    | 'turn'
    | 'declareHandlers'
    | 'sweep'
    | 'get'
    | 'list'
    | 'predecessor'
    | 'batch'
    | 'events'
    | 'keys'
    | 'countCalls'
    | 'schedules'
    | 'health'
    | 'close'
  > {
  /**
   * Cancels tasks: a waiting task at once; a running one receives a request to stop, and ends as `canceled` when its
   * handler ends or when `cancelGraceMs` has passed. By filter, one call handles a bounded number: call again with the
   * `next` of its answer while there is one. A filter does not match tasks that already have a cancel request.
   */
  cancel(which: Which): Promise<Changed>

  /**
   * Returns failed, canceled and timed-out tasks to `pending`, with attempts from 0. Bounded like `cancel`. A task that
   * has predecessors waits again for those that have not ended in a way that counts; it is refused if one of these has
   * been removed.
   */
  retry(which: Which): Promise<Changed>

  /** Erases finished tasks, see `TaskChange`. `changed` is returned without a task. */
  erase(ids: readonly string[]): Promise<Changed>

  /** Declares a type or changes it; in force for every claim after it resolves. @throws XQueueError `unknown_type` */
  configureType(type: string, change: TypeChange): Promise<TypeInfo>

  /** The reason why a task is not running, or null when there is no such task. */
  explain(id: string): Promise<Explanation | null>

  /** All known types and those with kept tasks, or those of `names` that exist. */
  types(query?: { names?: readonly string[]; holders?: boolean }): Promise<TypeInfo[]>

  /** The live workers of all processes. */
  workers(): Promise<WorkerInfo[]>

  stats(): Promise<Stats>

  /** Stores tasks under their existing ids; only with a store that can, see `Restorable`. */
  readonly restore?: Restorable['restore']
}
