import type { Count, Ring } from '../store/history.ts'
import type { Restorable } from '../store/state.ts'
import type {
  EventsReader,
  LimitFacts,
  Percentiles,
  Store,
  EventsPage as StoredEvents,
  LimitChange as StoredLimitChange,
  TypeChange as StoredTypeChange,
  EventsQuery as StoreEventsQuery,
  WorkerInfo,
} from '../store/store.ts'
import type { KeyChange, Keys } from '../task/api-key.ts'
import type { KeptAttempts } from '../task/attempt.ts'
import type { LogLine } from '../task/log-line.ts'
import type { Schedule, ScheduleChange } from '../task/schedule.ts'
import type { Task } from '../task/task.ts'
import type { Changed, Which } from './changes.ts'
import type { ExplainOptions, Explanation } from './explanation.ts'
import type { Stats, TypeInfo } from './statistics.ts'

export { refuseLimitChange } from '../store/admission.ts'
export { COUNTS, type Ring } from '../store/history.ts'
export {
  STORE_DEFAULTS as QUEUE_DEFAULTS,
  type StoreOptions as QueueOptions,
} from '../store/options.ts'
export {
  type CallsCounted,
  type ChangeOutcome,
  CURSOR_CHARS_MAX,
  type EventsReader,
  GROUP_TURNS,
  type GroupTurns,
  type HandlerSettings,
  type Health,
  type Holder,
  type Lease,
  LIMITS_MAX,
  type LimitHolder,
  type LimitSettings,
  type ListQuery,
  PAGE_BYTES_MAX,
  type Page,
  type PartitionInfo,
  type Percentiles,
  RATE_LIMITS,
  type Rate,
  type Renewed,
  type Settled,
  type StreamInfo,
  type Submitted,
  type Swept,
  type TaskFilter,
  type Turn,
  type TurnAnswer,
  TYPES_NAMED_MAX,
  type WorkerIdentity,
  type WorkerInfo,
} from '../store/store.ts'
export type { KeyChange, Keys } from '../task/api-key.ts'
export type { ScheduleChange } from '../task/schedule.ts'
export type { Changed, ChangePosition, ChangeResult, Which } from './changes.ts'
export { type ExplainOptions, type Explanation, type LimitInTheWay, SUCCESSORS_MAX } from './explanation.ts'
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
    | 'countCalls'
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

  /**
   * Creates, changes or removes a named limit, or the limit of one group (`group:TYPE/GROUP`); in force for every claim
   * after it resolves.
   * @throws XQueueError `invalid_request`, `unknown_limit`, `limit_in_use`, `too_many_limits`, `limit_not_placeable`
   */
  configureLimit(name: string, change: LimitChange): Promise<void>

  /** The named limits with settings, or those of `names` that have settings in force. */
  limits(query?: { names?: readonly string[]; holders?: boolean }): Promise<LimitFacts[]>

  /** The reason why a task is not running, or null when there is no such task. */
  explain(id: string, options?: ExplainOptions): Promise<Explanation | null>

  /** The attempts of a task, or null when there is no such task. */
  attempts(id: string): Promise<TaskAttempts | null>

  /** Lines of a task's log after the line number `after`, or null when there is no such task. */
  logs(id: string, after: number, max: number): Promise<TaskLog | null>

  /** Figures of a type, or of all types (null), over the time of a ring. */
  history(ring: Ring, type: string | null): Promise<TypeHistory>

  /** All known types and those with kept tasks, or those of `names` that exist; `demand` for `runnable`. */
  types(query?: { names?: readonly string[]; holders?: boolean; demand?: boolean }): Promise<TypeInfo[]>

  /** The live workers of all processes. */
  workers(): Promise<WorkerInfo[]>

  /** Totals; `demand` for `runnable`. */
  stats(query?: { demand?: boolean }): Promise<Stats>

  /**
   * Events as `Store.events` describes. With `reader`, the store keeps the position under that name, and one owner at a
   * time reads from it. So many processes can share the work, and the next one receives the events that one has not
   * handled: see `EventsReader`.
   */
  events(query: EventsQuery): Promise<EventsPage>

  /**
   * Adds a key, changes one, or removes one together with the sessions that it opened, durably; returns the keys that
   * have not expired, oldest first. All processes see the change with their next call. A session is stored only while
   * its key is kept, and a key that was removed meanwhile is not changed.
   * @throws XQueueError `unauthorized` for a session whose key is no longer kept
   */
  keys(change?: KeyChange): Promise<Keys>

  /**
   * Changes a schedule, durably, and returns all of them by their ids. `sweep` creates the tasks: exactly one per tick
   * over all processes, in the same atomic step as the change of `nextAt`, even for a type that no longer has a worker.
   * A tick that finds the queue full stays due.
   * @throws XQueueError `schedule_exists`, `too_many_schedules`, `unknown_type` when adding; `queue_full` for a run;
   *   `not_found`, also for a change that names another type's schedule; `invalid_request` for the time zone of an
   *   interval
   */
  schedules(change?: ScheduleChange): Promise<Schedule[]>

  /** Stores tasks under their existing ids; only with a store that can, see `Restorable`. */
  readonly restore?: Restorable['restore']
}

/** All attempts of a task, oldest first, the present or last one included; and the number of those no longer kept. */
export interface TaskAttempts extends KeptAttempts {
  task: Task
}

export interface TaskLog {
  /** Without contents. */
  task: Task
  /** Oldest first. */
  lines: LogLine[]
  /** Number of lines that are no longer kept. */
  leftOut: number
}

export interface TypeHistory {
  /** Length of a slot in ms. */
  slotMs: number
  /** Each slot of the ring, oldest first; the last one is not over yet. */
  slots: HistoryFigures[]
}

/** What happened in one slot. */
export interface HistoryFigures extends Record<Count, number> {
  /** Its start. */
  at: number
  waitMs: Percentiles | null
  runMs: Percentiles | null
}

export interface TypeChange extends Omit<StoredTypeChange, 'heldUntil'> {
  /** No task starts for so long, at most `TASK_LIMITS.holdMsMax`; 0 ends the hold. */
  holdMs?: number
}

export interface LimitChange extends Omit<StoredLimitChange, 'heldUntil'> {
  /** No task that uses it starts for so long, at most `TASK_LIMITS.holdMsMax`; 0 ends the hold. */
  holdMs?: number
}

export type LimitInfo = LimitFacts

export interface EventsQuery extends StoreEventsQuery {
  reader?: EventsReader
}

export interface EventsPage extends StoredEvents {
  /** Whether the named reader's lease is the caller's; true without one. */
  held: boolean
}
