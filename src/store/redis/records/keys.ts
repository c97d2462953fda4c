import { ATTEMPTS_BYTES_MAX, ATTEMPTS_MAX } from '../../../task/attempt.ts'
import { canceledBecause, canceledBecauseGone, FAILURE_POLICIES } from '../../../task/flow.ts'
import { LOG_LIMITS } from '../../../task/log-line.ts'
import { WAITED_TOO_LONG } from '../../../task/outcome.ts'
import { FINAL_STATUSES, RETRYABLE_STATUSES, type Status, WAITING_STATUSES } from '../../../task/status.ts'
import { TASK_LIMITS } from '../../../task/task.ts'
import { COUNTS, HISTORY_TYPES_MAX } from '../../history.ts'
import { FOLLOWED_MAX } from '../../options.ts'
import { LIMITS_MAX, TYPES_NAMED_MAX } from '../../type-info.ts'

/**
 * The names of all keys of XQueue in Redis, after the partition's prefix `<prefix>:{<partition>}:`. All keys of a
 * partition lie in one hash slot, so that one script changes them together. Scripts use these names.
 */
export const KEYS = {
  /** Type and priority → number, and back. */
  lanes: 'lanes',
  /** Stream of a lane: `s:<type>:<priority>`. */
  lane: 's:',
  /** Waiting tasks of groups, by lane and entry, and their order in each lane, `<bytes>|<group>|<entry>`. */
  grouped: 'grouped',
  group_queue: 'group_queue:',
  /** The deadlines of waiting tasks of groups. */
  group_waits: 'group_waits',
  /** Groups of a lane in the order in which they are served, and the last position in it. */
  rotation: 'rotation:',
  rotation_clock: 'rotation_clock:',
  /** Groups of the rotation that were never served, `<entry of the first task>|<group>`, in that order. */
  unserved: 'unserved:',
  /** Groups that were never served and have one waiting task, by the entry of that task: none of the keys above. */
  lone: 'lone:',
  /** Lane → the time (ms) from which the scores in `lone:` count. */
  lone_from: 'lone_from',
  /** Groups that may have several tasks waiting. */
  crowded: 'crowded:',
  /** Groups that have reached their limit, and those that have no tasks left, with their last position. */
  at_limit: 'at_limit:',
  rested: 'rested:',
  /** Means of recent running times (ms) of a lane's groups, in types whose groups share running time. */
  paces: 'paces:',
  /** Groups of the first version with groups: a stream for each, and their order. */
  group_stream: 'g:',
  ring: 'ring:',
  ring_clock: 'ring_clock:',
  served: 'served:',
  newcomers: 'newcomers:',
  aside: 'aside:',
  idle: 'idle:',
  /** Leases of a group, `held:<type>|<group>`, of types with a limit; and of each worker those of groups. */
  held: 'held:',
  busy: 'busy',
  /** Starts of a type that count for its rate, and their number. */
  starts: 'starts:',
  started: 'started',
  /** Named limits: their settings; what is in use of each and how many tasks use it; the leases that use one. */
  limits: 'limits',
  limits_now: 'limits:now',
  using: 'using:',
  /** Units of a limit that count for its rate. */
  limit_starts: 'limit_starts:',
  /** Lanes of groups that wait for a limit: what each needs; by `<lane>|<limit>` their order and their needs. */
  held_back: 'held_back:',
  limit_lanes: 'limit_lanes:',
  limit_needs: 'limit_needs:',
  /** Of a limit, the lanes with such lanes; and all these limits, with the time at which each may have room. */
  limit_waits: 'limit_waits:',
  limits_parked: 'limits:parked',
  /** In the first partition of a cluster: the partitions of limits, by the beginnings of their names. */
  limit_homes: 'limit_homes',
  /** Lanes of groups whose tasks use limits, in a lane. */
  group_lanes: 'group_lanes:',
  /** Entries of a lane that were given back. */
  back: 'back:',
  /** Fields of given-back entries that have changed since. */
  again: 'again',
  /** The entry of a task that has moved from the entry where it was accepted. */
  moved: 'moved',
  /** The last entry id given. */
  clock: 'clock',
  /** Limits on the wait of a lane's tasks, and the position of the sweep. */
  waits: 'waits',
  /** The earliest time at which one of these tasks may have waited too long. */
  waits_due: 'waits_due',
  delayed: 'delayed',
  due: 'due',
  /** Tasks that wait for others, by their refs and by age. */
  dependent: 'dependent',
  dependents: 'dependents',
  /**
   * Of a task: the outcomes of its predecessors, as far as they have ended, and its successors; and all tasks that have
   * successors.
   */
  outcomes: 'outcomes:',
  successors: 'successors:',
  /** Of a finished task: the names of the tasks that have a copy of its result. */
  copies: 'copies:',
  awaited: 'awaited',
  /** Tasks that have ended or were removed and have not notified all of their successors. */
  put_off: 'put_off',
  /** Messages to other partitions, and the time and position of the last check of awaited tasks. */
  partition_messages: 'notices',
  awaited_rechecked: 'awaited:looked_at',
  /** The tasks of a batch, in the order of submission, and the number of kept tasks of each batch. */
  batch: 'batch:',
  batches: 'batches',
  leases: 'leases',
  /** Leases of a type by the time at which they are due. Its length counts against the limit. */
  running: 'running:',
  /** The earliest time at which a lease of a type may be due. */
  leases_due: 'leases_due',
  progress: 'progress',
  /** The long payload of a task that has started. */
  payload: 'payload:',
  /** Leases of a worker that it must cancel. */
  cancels: 'cancels:',
  finished: 'finished:',
  /** The attempts of a task that did not end it. */
  attempts: 'attempts:',
  /** The lines that the handler of a task wrote with its log. */
  logs: 'logs:',
  /** Stream of the tasks that have ended in a status, by time. */
  done: 'done:',
  /** Ended tasks of types with their own retention, `<status> <entry>`, by the time of their removal. */
  kept: 'kept',
  /** By status: the position up to which the oldest entries in `done:` are such tasks. */
  kept_passed: 'kept:passed',
  /** Of tasks that were retried from a status, `<ref> <status>`: the last position there before the retry. */
  taken_back: 'taken_back',
  /** Stream of all tasks, by submission. */
  index: 'index',
  index_tidied: 'index:tidied',
  index_rechecked: 'index:looked_at',
  /** The task of an idempotency key. */
  key: 'key:',
  counts: 'counts',
  /** The number of unfinished and finished tasks, over all types. */
  totals: 'totals',
  events: 'events',
  /** Entries whose contents were erased, by number: they replace those in the stream. */
  erased_events: 'events:erased',
  /** Bytes of all events ever written. */
  event_bytes: 'events:bytes',
  /** The latest end of a removed task: no later event is of a removed task. */
  ended_until: 'ended_until',
  event_clock: 'events:clock',
  /** The number before the first event ever written. */
  event_birth: 'events:birth',
  /** Numbers that were skipped, `<last before>:<first after, less 1>`, newest first. */
  event_skips: 'events:skips',
  /** Lease and position of a named reader of events. */
  reader: 'reader:',
  /** Exists while a client reads events. */
  readers: 'readers',
  partitions: 'partitions',
  partition_count: 'partitions:count',
  /** The process that restores the partition from a log, or a mark that it is complete. */
  restoring: 'restoring',
  /** Type → its rules for starts, `<type>/lanes` → its lanes, `<type>/group_permits` if `held` has its leases,
   * `<type>/held` → until when it is held. */
  rules: 'rules',
  /** The time at which the store was found to have lost everything, 0 if it never was; lost with everything else. */
  birth: 'birth',
  back_off: 'back_off',
  schemas: 'schemas',
  defaults: 'defaults',
  ceilings: 'ceilings',
  /** Type → its retention, as JSON of the values that operators `set` and of those of the `handler`. */
  retention: 'retention',
  /** Type → `tasks` or `time`, its source: what its groups share fairly. */
  group_turns: 'group_turns',
  /** The time at which a type was last served, and permanently known types. */
  known: 'known',
  declared: 'declared',
  workers: 'workers',
  seen: 'seen',
  worked: 'worked',
  /** Workers that have left, whose data is to be removed; those under examination, and those that still hold leases. */
  gone: 'gone',
  going: 'going',
  holding: 'holding',
  /** The position at which the next sweep continues in hashes that it scans in turn. */
  rounds: 'rounds',
  /** Written by a sweep that found nothing to do: how long sweeps may rest, if no event is added (sweep-rest.lua). */
  rest: 'rest',
  /** Processes that wait for a task of a type, and for a permit of it. */
  waiting: 'waiting:',
  blocked: 'blocked:',
  /** Lanes that have ready tasks, in their order, and the entry of each; types that may start nothing. */
  ready: 'ready',
  ready_lanes: 'ready:lanes',
  parked: 'parked',
  /**
   * The types of a worker that has many, by their digest; processes that wait for one of them, and those with ready
   * tasks.
   */
  typeset: 'typeset:',
  waiting_for_typeset: 'waiting_for_typeset:',
  waiting_typesets: 'waiting_typesets',
  /** The process that sweeps; each earlier version that stores tasks in another form has one of its own. */
  maintainer: 'maintainer:2',
  maintainer_before: 'maintainer',
  maintainer_first: 'keeper',
  /** The API keys by their ids, and the secret that signs tokens; in the first partition. */
  api_keys: 'api_keys',
  secret: 'secret',
  /** Calls of an API key that count for its rate. */
  calls: 'calls:',
  /** Schedules by their ids, the times of their next ticks, and the last task of each with its time. */
  schedules: 'schedules',
  ticks: 'ticks',
  made: 'made',
  /** Statistics of the tasks that finished in each slot of ten seconds. */
  rates: 'rates:',
  /** Figures of types by ring and slot; and the tasks that ended without a worker, by `<type> <status>`. */
  history: 'history:',
  history_ends: 'history_ends',
} as const

/** The location of a store: the prefix of its keys and the number of its database, which channels do not include. */
export interface Names {
  prefix: string
  database: number
}

export function partitionPrefix({ prefix }: Names, partition: number): string {
  return `${prefix}:{${partition}}:`
}

/** Channels: one that all processes receive, and one for a single process. */
export function channels({ prefix, database }: Names): { news: string; wake: string } {
  return { news: `${prefix}@${database}:news`, wake: `${prefix}@${database}:wake:` }
}

/** Extras of a task that has none: its tags, idempotency key and group as JSON. */
export const NO_EXTRAS = '{},null,null'

/** Maximum bytes of messages to other partitions that are read at once. */
export const MESSAGES_BYTES_MAX = 1024 * 1024
/** From this size on, the payload of a started task is kept apart from its records (payloads.lua). */
export const PAYLOAD_APART_BYTES = 1024

/** Texts, booleans, lists and objects in Lua syntax; the names in objects are identifiers. */
function luaLiteral(value: LuaValue): string {
  if (typeof value === 'string') return `'${value}'`
  if (typeof value === 'boolean') return String(value)
  if (isList(value)) return `{ ${value.map(luaLiteral).join(', ')} }`
  return `{ ${Object.entries(value)
    .map(([name, inner]) => `${name} = ${luaLiteral(inner)}`)
    .join(', ')} }`
}

function isList(value: LuaValue): value is readonly LuaValue[] {
  return Array.isArray(value)
}
type LuaValue = string | boolean | readonly LuaValue[] | { readonly [name: string]: LuaValue }

/** The constants of scripts, in Lua syntax. */
export function luaConstants(database: Names & { kind: string }): Map<string, string> {
  const text = luaLiteral
  const policies = Object.entries(FAILURE_POLICIES)
  return new Map([
    ...Object.entries(KEYS).map(([name, value]) => [`KEY.${name}`, text(value)] as const),
    ...Object.entries(channels(database)).map(([name, value]) => [`CHANNEL.${name}`, text(value)] as const),
    ['WORKERS', text('workers')],
    ['NO_EXTRAS', text(NO_EXTRAS)],
    // With a place for the id, and one for the status.
    ['CANCELED_BECAUSE', text(JSON.stringify(canceledBecause('%s', '%s' as Status)))],
    ['CANCELED_BECAUSE_GONE', text(JSON.stringify(canceledBecauseGone('%s')))],
    ['WAIT_ERROR', text(JSON.stringify(WAITED_TOO_LONG))],
    ['RETRYABLE', text(Object.fromEntries(RETRYABLE_STATUSES.map((status) => [status, true])))],
    ['IS_FINAL', text(Object.fromEntries(FINAL_STATUSES.map((status) => [status, true])))],
    [
      'COUNTED_STATUSES',
      text([...FINAL_STATUSES, 'grouped', ...WAITING_STATUSES.filter((each) => each !== 'pending')]),
    ],
    ['FINAL_STATUSES', text(FINAL_STATUSES)],
    ['POLICY_LETTERS', text(Object.fromEntries(policies.map(([name, { letter }]) => [name, letter])))],
    ['POLICY_EFFECTS', text(Object.fromEntries(policies.map(([, { letter, effects }]) => [letter, effects])))],
    ['CLUSTER', String(database.kind === 'cluster')],
    // Lua passes at most about 8000 values to a call.
    ['CHUNK', '4000'],
    ['PAYLOAD_APART_BYTES', String(PAYLOAD_APART_BYTES)],
    ['ATTEMPTS_MAX', String(ATTEMPTS_MAX)],
    ['ATTEMPTS_BYTES_MAX', String(ATTEMPTS_BYTES_MAX)],
    ['LOG_BYTES_MAX', String(LOG_LIMITS.bytesMax)],
    ['HISTORY_TYPES_MAX', String(HISTORY_TYPES_MAX)],
    ['HISTORY_COUNTS', text(COUNTS)],
    ['TYPES_NAMED_MAX', String(TYPES_NAMED_MAX)],
    ['LIMITS_MAX', String(LIMITS_MAX)],
    ['FOLLOWED_MAX', String(FOLLOWED_MAX)],
    ['MESSAGES_BYTES_MAX', String(MESSAGES_BYTES_MAX)],
    ['PREDECESSORS_BYTES_MAX', String(TASK_LIMITS.predecessorsBytesMax)],
  ])
}
