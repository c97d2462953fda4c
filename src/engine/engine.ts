import type { ApiKey, CallRate } from '../task/api-key.ts'
import type { TaskEvent } from '../task/event.ts'
import type { BatchInfo, Predecessor } from '../task/flow.ts'
import type { JsonText } from '../task/json.ts'
import type { Outcome } from '../task/outcome.ts'
import type { Schedule, ScheduleChanges, ScheduleSpec } from '../task/schedule.ts'
import type { Status } from '../task/status.ts'
import type { Progress, Task, TaskSpec } from '../task/task.ts'
import type { Stats } from './stats.ts'
import type { HandlerSettings, Holder, TypeChange, TypeInfo } from './type-info.ts'

export { ENGINE_DEFAULTS, type EngineOptions } from './options.ts'
export type { PartitionInfo, Stats, StreamInfo } from './stats.ts'
export {
  type HandlerSettings,
  type Holder,
  type Percentiles,
  RATE_LIMITS,
  type Rate,
  TYPES_NAMED_MAX,
  type TypeChange,
  type TypeInfo,
} from './type-info.ts'

/**
 * The port: what XQueue asks of the store that coordinates it. Everything is a batch, and everything that must be true
 * together happens in one atomic step. A status change and its event are written in the same step. Nothing above the
 * port knows which engine it has; `test/engine-contract/` says what each verb promises.
 *
 * Every verb rejects with XQueueError `engine_unavailable` when the store cannot be reached: then nothing was changed,
 * or the answer was lost on the way. Times are milliseconds since the epoch, durations milliseconds.
 */
export interface Engine {
  /** The URL that opens the store of leases again, also from another thread of this process: for renewals. */
  readonly url: string

  /** So many turns of one worker are worth having under way at once: more than one where an answer is waited for. */
  readonly turnsAtOnce: number

  /**
   * Accepts all specs or none; durable when it resolves. A known idempotency key with the same request answers the
   * earlier task (`existing`).
   *
   * A task with `after` is pending until all of those have ended, each in a way that counts for it (`onFailure`): then
   * it is ready, and its wait begins, or it is canceled at once. So it is also for those that have ended before.
   * @throws XQueueError `unknown_type` and `unknown_predecessor` (with the index of each in `errors`, as in
   *   `tasks[i].type`), `idempotency_conflict`, `queue_full`, `too_many_successors`, `too_large`
   *   for more names in `after` over all of them than `TASK_LIMITS.edgesMax`
   */
  submit(specs: readonly TaskSpec[]): Promise<Submitted[]>

  /** One trip of a worker: renews leases, settles outcomes, claims up to `want` tasks. See `Turn`. */
  turn(turn: Turn): Promise<TurnAnswer>

  /**
   * Cancels: a waiting task at once; a running one is asked to stop, and ends as `canceled` when its handler does or
   * when `cancelGraceMs` has passed. By filter, one call handles a bounded number: call again with the `next` of its
   * answer while there is one. A filter does not fit those that were asked already.
   */
  cancel(which: Which): Promise<Changed>

  /**
   * Takes failed, canceled and timed-out tasks back to `pending`, attempts from 0. Bounded like `cancel`. One that
   * waits for others waits again for those that have not ended in a way that counts; it is refused if one of these is
   * gone.
   */
  retry(which: Which): Promise<Changed>

  /**
   * Erases finished tasks: payload, result, error, progress, tags, idempotency key, what events in the outbox hold of
   * them, and the copies of their results that successors keep. Each is told of by an event of the kind `removed`.
   * `changed` is answered without a task; one that has not finished is `refused`. At most 1,000 a call.
   */
  erase(ids: readonly string[]): Promise<Changed>

  /** Declares a type or changes it; in force for every claim after it resolves. @throws XQueueError `unknown_type` */
  configureType(type: string, change: TypeChange): Promise<TypeInfo>

  /** The same for the handlers of a process, many types in one step; at most 1,000 a call. */
  declareHandlers(handlers: ReadonlyMap<string, HandlerSettings>): Promise<void>

  /**
   * Does what time makes due, at most `max` tasks of each kind: delayed tasks become ready, deadlines end, lost leases
   * go back, canceled tasks whose grace is over end, schedules make their tasks, finished tasks past retention go (an
   * event of the kind `removed` tells of each), old events go. Safe anywhere, any number of times.
   */
  sweep(max: number): Promise<Swept>

  /** In the order asked for; null where there is none. `bare` as for `list`. */
  get(ids: readonly string[], look?: { bare?: boolean }): Promise<(Task | null)[]>

  /**
   * Newest first; with `status: 'pending'` in the order they will run, but for the turns that groups take, and last
   * those that wait for others. Those of a batch are always newest first. Each call looks at a bounded number of tasks
   * and reads a bounded number of bytes: a page may be short and still have a `nextCursor`.
   * @throws XQueueError `invalid_cursor`
   */
  list(query: ListQuery): Promise<Page>

  /**
   * One of those that a task has waited for, whole, while its lease is held: also where the claim left out the result.
   * Null where the task waits for no such one.
   * @throws XQueueError `lease_lost`
   */
  predecessor(lease: string, id: string): Promise<Predecessor | null>

  /** How far the tasks of a batch are, or null when there is none that is kept. */
  batch(name: string): Promise<BatchInfo | null>

  /** Why a task is not running, or null when there is no such task. */
  explain(id: string): Promise<Explanation | null>

  /** Every type that is known, or those of `names` that are. */
  types(query?: { names?: readonly string[]; holders?: boolean }): Promise<TypeInfo[]>

  /** The live workers over all processes. */
  workers(): Promise<WorkerInfo[]>

  stats(): Promise<Stats>

  /**
   * Events after the position `after` (null: from now on, '': all that are kept), oldest first. Waits up to `waitMs`
   * for the first one. `gap` says that events after `after` are already gone, or that nothing is known of that place.
   * Of a task that retention or an erasure has removed, only its `removed` event is answered.
   *
   * With `reader`, the position is kept by the engine under that name and read by one owner at a time, so that many
   * processes share the work and what one has not handled the next one gets: see `EventsReader`.
   */
  events(query: EventsQuery): Promise<EventsPage>

  /**
   * Adds a key, changes one, or drops one and the sessions that were opened with it, durably; answers those that have
   * not expired, oldest first. All processes see the change with their next call. A session is stored only while the
   * key that it was opened with is kept, and a key that was dropped meanwhile is not changed: both in one step.
   * @throws XQueueError `unauthorized` for a session whose key is no longer kept
   */
  keys(change?: KeyChange): Promise<Keys>

  /**
   * Counts up to so many calls of a key, exactly and over all processes: no window of the rate ever holds more than its
   * `max`, and none is refused that the rate allows. A loss of power may undo the last counts. Logs of windows that are
   * over go by themselves.
   */
  countCalls(key: string, rate: CallRate, calls: number): Promise<CallsCounted>

  /**
   * Changes a schedule, durably, and answers all of them by their ids. `sweep` makes the tasks: of each tick one, over
   * all processes, in the same atomic step as the move of `nextAt`, also of a type that has no worker any more. A tick
   * that finds the queue full stays due.
   * @throws XQueueError `schedule_exists`, `too_many_schedules`, `unknown_type` for one to add; `queue_full` for a run;
   *   `not_found`, also for a change meant for another type's; `invalid_request` for the time zone of an interval
   */
  schedules(change?: ScheduleChange): Promise<Schedule[]>

  health(): Promise<Health>

  /** Ends waiting turns and event reads with empty answers, writes what is under way, closes the store. */
  close(): Promise<void>
}

/** `existing`: the key was known and the request the same, nothing was added. */
export interface Submitted {
  task: Task
  existing: boolean
}

export interface WorkerIdentity {
  id: string
  host: string
  pid: number
  types: readonly string[]
  /** Tasks it runs at once. */
  concurrency: number
  startedAt: number
}

export interface Turn {
  worker: WorkerIdentity
  outcomes?: readonly { lease: string; outcome: Outcome }[]
  renewals?: readonly { lease: string; progress?: Progress | JsonText }[]
  /**
   * Claims at most this many of the worker's types, or of `types`: ready, not paused, within rate, limit and the limit
   * of its group, not past its wait deadline. Of a type, highest priority first. Within one priority the groups that
   * have ready tasks take turns, those without a group being one group of their own; within a group, the task that has
   * been ready longest (by `runAt`, then by submission). The next turn is that of the group served longest ago; one
   * that never was goes first, of several the one whose first task has been ready longest. A group with nothing ready
   * may be forgotten. A type that the worker names and nobody has made known is made, up to `TYPES_NAMED_MAX`.
   */
  want: number
  types?: readonly string[]
  /**
   * Claims only tasks of these groups, in the order of the list. Such a turn does not wait: what wakes one could be
   * another group's.
   */
  groups?: readonly string[]
  /** With nothing to answer, waits up to this long for a task to claim or a cancel to pass on. */
  waitMs?: number
  /** Ends the wait early, with what there is. Claimed tasks are always answered. */
  signal?: AbortSignal
  /** How long the leases of this turn live; default the engine's `leaseMs`. */
  leaseMs?: number
  /**
   * Answers when the outcomes and claims survive whatever the engine is set to survive, not only when they are in
   * force; default false. A worker need not wait: what a loss of power undoes, nobody was shown, and it runs again. A
   * caller that outlives the engine's machine must.
   */
  durable?: boolean
  /** The worker says good-bye: it is no longer listed. Its leases stay until settled or expired. */
  leaving?: boolean
}

export interface TurnAnswer {
  /** One per outcome, in order. */
  settled: Settled[]
  /** One per renewal, in order; null where the lease is no longer held. */
  renewed: (Renewed | null)[]
  leases: Lease[]
  /** Leases of this worker whose tasks are to be canceled, each told at least once. */
  cancelRequested: string[]
}

/**
 * `status` is the task's status after the outcome; null where the lease was no longer held and nothing was changed.
 * `accepted` is false when the lease was lost, and when a result came after a cancel or past the deadline.
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
 * The permit to run one task. Its token is the fence: no other hand-out ever has the same. Nobody but the worker that
 * the task was handed to can know it, so nothing that others are shown may contain it.
 */
export interface Lease {
  lease: string
  expiresAt: number
  /** When the attempt runs out of time, or null. */
  deadlineAt: number | null
  task: Task
  /**
   * What the task has waited for, in the order of its `after`. Results are handed on in that order as long as they fit
   * `TASK_LIMITS.predecessorsBytesMax`; the others are `omitted`, and not read.
   */
  predecessors: readonly Predecessor[]
}

/**
 * Task ids, or everything that fits a filter. `before` is the `next` of the answer before: what has changed since the
 * first call is left alone, for else tasks that fail as fast as they are retried would be retried for ever.
 */
export type Which = { ids: readonly string[] } | { filter: TaskFilter; before?: number }

export interface TaskFilter {
  status?: Status
  type?: string
  tag?: { key: string; value: string }
  group?: string
  batch?: string
}

export interface Changed {
  /** By ids: one per id. By filter: one per task that was changed. */
  results: { id: string; outcome: ChangeOutcome; task: Task | null }[]
  /** By filter: what to go on with; null: that was all. */
  next: number | null
}

/**
 * `changed`: done. `stopping`: a running handler was asked to stop. `refused`: its status does not allow it.
 * `unknown`: no such task.
 */
export type ChangeOutcome = 'changed' | 'stopping' | 'refused' | 'unknown'

export interface WorkerInfo extends WorkerIdentity {
  running: number
  lastSeen: number
  /** Attempts that ended in success, and in anything else, since it started. */
  processed: number
  failed: number
}

export interface Swept {
  changed: number
  /** True when `max` cut something off: come again at once. */
  more: boolean
  /** When the next thing is due, or null. */
  nextAt: number | null
}

export interface ListQuery extends TaskFilter {
  limit: number
  cursor?: string
  /** Leaves payload, result and error null, and a progress that is more than a number; does not read them. */
  bare?: boolean
}

/** A page of tasks or of events ends when what was read of it has so many bytes. */
export const PAGE_BYTES_MAX = 4 * 1024 * 1024

export interface Page {
  tasks: Task[]
  nextCursor: string | null
}

/** Why a task is not running, in the order the reasons are looked at. */
export interface Explanation {
  reason:
    | 'finished'
    | 'running'
    | 'waits_for_tasks'
    | 'delayed'
    | 'paused'
    | 'no_worker'
    | 'limit_reached'
    | 'group_limit_reached'
    | 'rate_limited'
    | 'behind'
    | 'ready'
  task: Task
  /** Who holds the type's permits; for `group_limit_reached`, those of the group. */
  holders: Holder[]
  maxConcurrency: number | null
  /** Tasks of its type that go first, as things stand (counted up to 10,000). */
  ahead: number
  /** The tasks that it still waits for. */
  waitsFor: readonly string[]
  /** Until when, where the reason has an end: run_at, the holder's lease expiry, the rate's next start. */
  until: number | null
}

export interface EventsQuery {
  after: string | null
  max: number
  waitMs?: number
  signal?: AbortSignal
  reader?: EventsReader
}

/**
 * A durable place in the outbox. A call takes or renews the lease of `name` for `owner`, if it is free, expired or the
 * owner's already; while another owner's lives, the answer is `held: false` and empty, after waiting up to `waitMs` for
 * it to come free. `after` says that everything up to there was handled: it is committed in the same step, unless
 * somebody else has held the lease since, and then events after the committed place are answered. With `after: null`
 * reading goes on at the committed place; the very first time from now on. `leaseMs: 0` commits, gives the lease back
 * and answers `held: false`. Waiting does not renew: it ends at half of `leaseMs`.
 *
 * Events past `eventsMax`, `eventsAgeMs` or `eventsBytesMax` may go before they were read: then `gap` is true.
 */
export interface EventsReader {
  name: string
  owner: string
  leaseMs: number
}

export interface EventsPage {
  events: TaskEvent[]
  /** Where to go on: the next call's `after`. */
  last: string
  gap: boolean
  /** Whether the named reader's lease is the caller's; true without one. */
  held: boolean
}

export type KeyChange = { add: ApiKey } | { alter: ApiKey } | { drop: string }

export interface Keys {
  keys: ApiKey[]
  /** What tokens are signed with: 32 random bytes, base64url, made once for each store. */
  secret: string
}

export interface CallsCounted {
  /** How many of them the rate allows; only these are counted. */
  allowed: number
  /** After how many milliseconds the rate allows the next one; 0 if it allows all. */
  nextInMs: number
}

/**
 * `add` the same again changes nothing. `run` makes a task out of turn, whatever `overlap` says. `keep` takes one as it
 * is, with its times, unless it is there already: for what was lost, or comes from another engine.
 */
export type ScheduleChange =
  | { add: ScheduleSpec }
  | { alter: string; to: ScheduleChanges }
  | { drop: string }
  | { run: string }
  | { keep: Schedule }

export interface Health {
  engine: string
  /** What an accepted task survives, in words. */
  durability: string
  /** `degrades`: without it tasks are accepted and run all the same, so the process stays in service. */
  checks: { name: string; ok: boolean; detail: string; degrades?: true }[]
}
