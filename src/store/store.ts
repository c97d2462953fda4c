import type { CallRate } from '../task/api-key.ts'
import type { KeptAttempts } from '../task/attempt.ts'
import type { TaskEvent } from '../task/event.ts'
import type { BatchInfo, Predecessor } from '../task/flow.ts'
import type { JsonText } from '../task/json.ts'
import type { AttemptLog, StoredLog } from '../task/log-line.ts'
import type { Outcome } from '../task/outcome.ts'
import type { Status } from '../task/status.ts'
import type { Progress, Task, TaskSpec } from '../task/task.ts'
import type { Accompanied, AccompaniedAnswer, DocumentsAnswer, DocumentsStep, DueHandler } from './documents.ts'
import type { Facts, InspectQuery, WorkerIdentity } from './facts.ts'
import type { HistoryQuery, HistorySlot } from './history.ts'
import type { HandlerSettings, LimitChange, TypeChange } from './type-info.ts'

export type {
  Facts,
  InspectQuery,
  LimitFacts,
  LimitHolder,
  TaskFacts,
  TypeFacts,
  TypeSettings,
  WorkerIdentity,
  WorkerInfo,
} from './facts.ts'
export { STORE_DEFAULTS, type StoreOptions } from './options.ts'
export type { PartitionInfo, StreamInfo } from './stats.ts'
export {
  GROUP_TURNS,
  type GroupTurns,
  type HandlerSettings,
  type Holder,
  LIMITS_MAX,
  type LimitChange,
  type LimitSettings,
  type Percentiles,
  RATE_LIMITS,
  type Rate,
  TYPES_NAMED_MAX,
  type TypeChange,
} from './type-info.ts'

/**
 * The port: the operations that XQueue needs from the store that coordinates it. Every call is a batch, and changes
 * that belong together happen in one atomic step: a status change and its event are written in the same step. Code
 * above the port does not know which store it uses; `test/queue-contract/` specifies the behaviour of each verb.
 *
 * Every verb rejects with XQueueError `engine_unavailable` when the store cannot be reached: then nothing was changed,
 * or the answer was lost on the way. Times are milliseconds since the epoch, durations milliseconds.
 */
export interface Store {
  /** The URL that opens the same lease store again, also from another thread of this process: for renewals. */
  readonly url: string

  /** The store's time, as far as this process knows it. */
  readonly now: () => number

  /** Recommended number of concurrent turns of one worker: more than one where each turn waits for a network answer. */
  readonly turnsAtOnce: number

  /**
   * Accepts all specs or none; durable when it resolves. A known idempotency key with the same request returns the
   * earlier task (`existing`).
   *
   * A task with `after` is pending until all of those tasks have ended, each in a way that counts for it (`onFailure`).
   * Then it is ready, and its wait begins, or it is canceled at once. The same applies to predecessors that had ended
   * before the submission.
   * @throws XQueueError `unknown_type`, `unknown_limit` and `unknown_predecessor` (with the index of each in `errors`,
   *   as in `tasks[i].type`), `invalid_request` for units that a limit never allows, `idempotency_conflict`,
   *   `queue_full`, `too_many_successors`, `too_large` for more names in `after` over all of them than
   *   `TASK_LIMITS.edgesMax`
   */
  submit(specs: readonly TaskSpec[]): Promise<Submitted[]>

  /** One round trip of a worker: renews leases, settles outcomes, claims up to `want` tasks. See `Turn`. */
  turn(turn: Turn): Promise<TurnAnswer>

  /**
   * Changes up to `CHANGES_MAX` tasks, none of them named twice, each in an atomic step that checks its status. Returns
   * the outcomes in the order of `ids`. See `TaskChange`.
   */
  change(change: TaskChange, ids: readonly string[]): Promise<ChangeOutcome[]>

  /** The ids of tasks that match a filter, in an order that stays the same while they are unchanged. */
  matching(query: MatchQuery): Promise<Matching>

  /** Declares a type or changes it; in force for every claim after it resolves. @throws XQueueError `unknown_type` */
  configureType(type: string, change: TypeChange): Promise<void>

  /**
   * Creates, changes or removes a named limit; in force for every claim after it resolves. `group:TYPE/GROUP` sets
   * `max` of one group instead of the common one.
   * @throws XQueueError `unknown_limit`, `limit_in_use`, `too_many_limits`, `limit_not_placeable`
   */
  configureLimit(name: string, change: LimitChange): Promise<void>

  /** Declares the handlers of a process, many types in one step; at most 1,000 a call. */
  declareHandlers(handlers: ReadonlyMap<string, HandlerSettings>): Promise<void>

  /**
   * Processes everything that is due, at most `max` tasks of each kind: delayed tasks become ready, waits end at
   * their deadlines, expired leases return their tasks, canceled tasks end after their grace period, documents that
   * are due go to the handler of `onDue`, finished tasks past retention are removed (each with an event of the kind
   * `removed`), and old events are removed. Safe in any process, any number of times.
   */
  sweep(max: number): Promise<Swept>

  /** Tasks in the order of `ids`; null for each that does not exist. `bare` as for `list`. */
  get(ids: readonly string[], options?: { bare?: boolean }): Promise<(Task | null)[]>

  /**
   * The attempts of tasks that did not end them, in the order of `ids`; none for an unknown task. The step that ends
   * such an attempt keeps it until the task is removed, within `ATTEMPTS_MAX` and `ATTEMPTS_BYTES_MAX`. An explicit
   * retry keeps the attempt that had ended the task.
   */
  attempts(ids: readonly string[]): Promise<KeptAttempts[]>

  /**
   * Up to `max` lines of a task's log after the line number `after`; none for an unknown task. The step that ends or
   * renews the lease keeps them until the task is removed, within `logLinesMax` and `LOG_LIMITS.bytesMax`.
   */
  logs(id: string, after: number, max: number): Promise<StoredLog>

  /**
   * Newest first. With `status: 'pending'` in the order of execution, without regard to the rotation of groups, and
   * last the tasks that wait for others. Tasks of a batch are always newest first. Each call examines a bounded number
   * of tasks and reads a bounded number of bytes: a page may be short and still have a `nextCursor`.
   * @throws XQueueError `invalid_cursor`
   */
  list(query: ListQuery): Promise<Page>

  /**
   * One predecessor of a task in full, while the task's lease is held, even if the claim omitted the result. Null where
   * the task has no such predecessor.
   * @throws XQueueError `lease_lost`
   */
  predecessor(lease: string, id: string): Promise<Predecessor | null>

  /** The progress of a batch by status, or null when no task of it is kept. */
  batch(name: string): Promise<BatchInfo | null>

  /**
   * Facts about types, workers and a task, from which the queue draws its conclusions. Those of one type and its
   * holders are of one moment.
   */
  inspect(query: InspectQuery): Promise<Facts>

  /**
   * The figures of a type over time, or of all types under the name `ALL_TYPES`: the slots of a ring that have any,
   * oldest first. A crash loses at most those of the last seconds of a process.
   */
  history(query: HistoryQuery): Promise<HistorySlot[]>

  /**
   * Events after the position `after` (null: from now on, '': all that are kept), oldest first. Waits up to `waitMs`
   * for the first one. `gap` is true if events after `after` have been removed, or if the position is unknown. Of a
   * task that retention or an erasure has removed, only its `removed` event is returned.
   */
  events(query: EventsQuery): Promise<EventsPage>

  /**
   * Counts up to `calls` calls of a key, exactly and over all processes: no window of the rate ever holds more than its
   * `max`, and no call within the rate is refused. A power loss may undo the last counts. Logs of expired windows are
   * removed automatically.
   */
  countCalls(key: string, rate: CallRate, calls: number): Promise<CallsCounted>

  /** Changes documents in one atomic step, all or none, and reads some; see `DocumentsStep`. */
  documents(step: DocumentsStep): Promise<DocumentsAnswer>

  /**
   * Accepts a task and changes a document in the same atomic step; see `Accompanied`. The type of the task need not be
   * known. A task that was accepted before with its idempotency key, even for another request, counts as this one.
   * @throws XQueueError `queue_full`, `invalid_request`
   */
  submitWith(accompanied: Accompanied): Promise<AccompaniedAnswer>

  /**
   * `sweep` passes documents that are due to this handler, in at least one of all processes. A document remains due
   * until a process has moved it.
   */
  onDue(handler: DueHandler): void

  health(): Promise<Health>

  /** Ends waiting turns and event reads with empty answers, writes pending changes, closes the store. */
  close(): Promise<void>
}

/** `existing`: the key was known with the same request, so nothing was added. */
export interface Submitted {
  task: Task
  existing: boolean
}

export interface Turn {
  worker: WorkerIdentity
  outcomes?: readonly { lease: string; outcome: Outcome }[]
  renewals?: readonly { lease: string; progress?: Progress | JsonText }[]
  /** Lines of handlers; they come before the outcomes, and those of a lease that is no longer held are dropped. */
  logs?: readonly AttemptLog[]
  /**
   * Claims at most this many of the worker's types, or of `types`: tasks that are ready, not paused, within the rate,
   * the limit and the limit of their group, and not past their wait deadline. Within a type, highest priority first.
   * Within a priority, the groups that have ready tasks take turns; tasks without a group form one group of their own.
   * Within a group, the task that has been ready longest goes first (by `runAt`, then by submission). The next turn
   * belongs to the group served longest ago. A group that was never served goes first; of several such groups, the one
   * whose first task has been ready longest. A group without ready tasks may be forgotten. A type that the worker names
   * and that does not exist is created, up to `TYPES_NAMED_MAX`.
   */
  want: number
  types?: readonly string[]
  /**
   * Claims only tasks of these groups, in the order of the list. Such a turn does not wait, because a wake-up could be
   * for another group.
   */
  groups?: readonly string[]
  /** With an empty answer, waits up to this long for a task to claim or a cancel request to deliver. */
  waitMs?: number
  /** Ends the wait early with the answer so far. Claimed tasks are always returned. */
  signal?: AbortSignal
  /** Duration of the leases of this turn; default the store's `leaseMs`. */
  leaseMs?: number
  /**
   * If true, answers when the outcomes and claims are durable to the degree that the store is configured for, not only
   * when they are in force; default false. A worker need not wait: no caller has seen what a power loss undoes, and the
   * task runs again. A caller that outlives the store's machine must wait.
   */
  durable?: boolean
  /**
   * If true, the text of long payloads is kept beside them (`payloadTextOf`), because the caller passes them on as
   * JSON; default false, because it takes memory.
   */
  forwards?: boolean
  /** The worker leaves: it is no longer listed. Its leases stay until they are settled or expire. */
  leaving?: boolean
}

export interface TurnAnswer {
  /** One per outcome, in order. */
  settled: Settled[]
  /** One per renewal, in order; null where the lease is no longer held. */
  renewed: (Renewed | null)[]
  leases: Lease[]
  /** Leases of this worker whose tasks are to be canceled, each reported at least once. */
  cancelRequested: string[]
}

/**
 * `status` is the task's status after the outcome; null where the lease was no longer held and nothing was changed.
 * `accepted` is false when the lease was lost, and when a result arrived after a cancel or past the deadline.
 */
export interface Settled {
  accepted: boolean
  status: Status | null
}

export interface Renewed {
  expiresAt: number
  cancelRequested: boolean
}

/**
 * The permit to run one task. Its token is the fence: no other delivery ever has the same. Only the worker that
 * received the task may know it, so no other output may contain it.
 */
export interface Lease {
  lease: string
  expiresAt: number
  /** The time at which the attempt times out, or null. */
  deadlineAt: number | null
  task: Task
  /**
   * The predecessors of the task, in the order of its `after`. Results are included in that order as long as they fit
   * `TASK_LIMITS.predecessorsBytesMax`; the others are `omitted`, and not read.
   */
  predecessors: readonly Predecessor[]
}

/**
 * `cancel` ends a waiting task at once; a running one gets a request to stop, and ends as `canceled` when its handler
 * ends or when `cancelGraceMs` has passed.
 *
 * `retry` returns a failed, canceled or timed-out task to `pending`, with attempts from 0. If it has predecessors, it
 * waits again for those that have not ended in a way that counts, and is refused if one of these has been removed.
 *
 * `erase` removes a finished task: payload, result, error, progress, tags, idempotency key, its contents in outbox
 * events, and the copies of its result that successors keep; it writes an event of the kind `removed`.
 */
export type TaskChange = 'cancel' | 'retry' | 'erase'

/** Maximum number of tasks of one `change`. */
export const CHANGES_MAX = 1_000

export interface MatchQuery {
  filter: Omit<TaskFilter, 'status'>
  /** Only tasks with one of these statuses, but no running tasks that already have a request to stop. */
  statuses: readonly Status[]
  /** Only tasks that have not changed since that time; null: no bound. */
  since: number | null
  /** Leaves out so many of the first ones, unless the store continues at `cursor`. */
  skip: number
  max: number
  /** `nextCursor` of the search before this one, if the store gave one. */
  cursor?: string | null | undefined
}

export interface Matching {
  ids: string[]
  /** Where the next search continues; null: there are no more. A store that needs none begins anew. */
  nextCursor?: string | null
  /** The time of the store's clock at which the search began. */
  at: number
}

export interface TaskFilter {
  status?: Status
  type?: string
  tag?: { key: string; value: string }
  group?: string
  batch?: string
  /** Only tasks that were accepted at this time or later, in ms. */
  createdAfter?: number
  /** Only tasks that were accepted before this time. */
  createdBefore?: number
  /** A part of the error that the task shows. A to Z are equal to a to z. */
  error?: string
}

/**
 * `changed`: done. `stopping`: a running handler received a request to stop. `refused`: the task's status does not
 * allow it. `unknown`: no such task.
 */
export type ChangeOutcome = 'changed' | 'stopping' | 'refused' | 'unknown'

export interface Swept {
  changed: number
  /** True when `max` ended the sweep early: call again at once. */
  more: boolean
  /** The time at which the next item is due, or null. */
  nextAt: number | null
}

export interface ListQuery extends TaskFilter {
  limit: number
  cursor?: string
  /** Leaves payload, result and error null, and any progress that is more than a number; does not read them. */
  bare?: boolean
}

/** A cursor goes into a URL, and the headers of a call may have 16 KiB. */
export const CURSOR_CHARS_MAX = 8_192
/** A page of tasks or of events ends when this many bytes have been read for it. */
export const PAGE_BYTES_MAX = 4 * 1024 * 1024

export interface Page {
  tasks: Task[]
  nextCursor: string | null
}

export interface EventsQuery {
  after: string | null
  max: number
  waitMs?: number
  signal?: AbortSignal
}

/**
 * A durable position in the outbox. A call takes or renews the lease of `name` for `owner` if it is free, expired or
 * already the owner's. While another owner's lease lives, the answer is `held: false` and empty, after waiting up to
 * `waitMs` for the lease to become free. `after` confirms that everything up to that position was handled: it is
 * committed in the same step, unless another owner has held the lease since; then events after the committed position
 * are returned. With `after: null` reading continues at the committed position; for a new reader, from now on.
 * `leaseMs: 0` commits, releases the lease and returns `held: false`. Waiting does not renew the lease: it ends at half
 * of `leaseMs`.
 *
 * Events past `eventsMax`, `eventsAgeMs` or `eventsBytesMax` may be removed before they were read: then `gap` is true.
 */
export interface EventsReader {
  name: string
  owner: string
  leaseMs: number
  /** If true, a reader that does not exist yet is not created: it holds no lease until its start has been set. */
  resumes?: boolean
}

export interface EventsPage {
  events: TaskEvent[]
  /** The position to continue from: the next call's `after`. */
  last: string
  gap: boolean
}

export interface CallsCounted {
  /** The number of them that the rate allows; only these are counted. */
  allowed: number
  /** Milliseconds until the rate allows the next one; 0 if it allows all. */
  nextInMs: number
}

export interface Health {
  engine: string
  /** A description of the failures that an accepted task survives. */
  durability: string
  /** `degrades`: while the check fails, tasks are still accepted and run, so the process stays in service. */
  checks: { name: string; ok: boolean; detail: string; degrades?: true }[]
}
