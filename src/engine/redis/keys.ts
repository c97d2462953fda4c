import { WAITED_TOO_LONG } from '../../task/outcome.ts'
import { TASK_LIMITS } from '../../task/task.ts'
import { FOLLOWED_MAX } from '../options.ts'
import { TYPES_NAMED_MAX } from '../type-info.ts'

/**
 * The names of everything that XQueue keeps in Redis, after the partition's prefix `<prefix>:{<partition>}:`. All keys
 * of a partition lie in one hash slot, so that one script changes them together. Scripts take the names from here.
 */
export const KEYS = {
  /** Type and priority → number, and back. */
  lanes: 'lanes',
  /** Stream of a lane: `s:<type>:<priority>`. */
  lane: 's:',
  /** Waiting tasks of groups, by lane and entry, and their order in each lane, `<bytes>|<group>|<entry>`. */
  grouped: 'grouped',
  group_queue: 'group_queue:',
  /** When tasks of groups give up waiting. */
  group_waits: 'group_waits',
  /** Groups of a lane by whose turn it is, and the number of the last turn. */
  rotation: 'rotation:',
  rotation_clock: 'rotation_clock:',
  /** Groups of the rotation that were never served, `<entry of the first task>|<group>`, in that order. */
  unserved: 'unserved:',
  /** Groups that may have several tasks waiting. */
  crowded: 'crowded:',
  /** Groups that have come to their limit, and those that have nothing left, with when they were last served. */
  at_limit: 'at_limit:',
  rested: 'rested:',
  /** What the version before keeps of groups: a stream for each, and their order. */
  group_stream: 'g:',
  ring: 'ring:',
  ring_clock: 'ring_clock:',
  served: 'served:',
  newcomers: 'newcomers:',
  aside: 'aside:',
  idle: 'idle:',
  /** Leases of a group, `held:<type>|<group>`, and of each worker those of groups. */
  held: 'held:',
  busy: 'busy',
  /** Starts of a type that count for its rate, and how many they are. */
  starts: 'starts:',
  started: 'started',
  /** Entries of a lane that were given back. */
  back: 'back:',
  /** What of them has changed meanwhile. */
  again: 'again',
  /** The entry of a task that is not where it was accepted. */
  moved: 'moved',
  /** The last entry id given. */
  clock: 'clock',
  /** Limits on the wait of a lane's tasks, and how far a sweep has looked. */
  waits: 'waits',
  /** When a task of them may have waited for too long, at the earliest. */
  waits_due: 'waits_due',
  delayed: 'delayed',
  due: 'due',
  /** Tasks that wait for others, by their refs and by age. */
  dependent: 'dependent',
  dependents: 'dependents',
  /** Of a task: what it waits for, as far as that has ended, and who waits for it; and who is waited for at all. */
  outcomes: 'outcomes:',
  successors: 'successors:',
  /** Of a finished task: the names of those that have a copy of its result. */
  copies: 'copies:',
  awaited: 'awaited',
  /** Tasks that have ended, or are gone, and have not told all that wait for them. */
  put_off: 'put_off',
  /** What other partitions are to be told, and when and how far it was last looked again at what is awaited. */
  notices: 'notices',
  looked_at_awaited: 'awaited:looked_at',
  /** The tasks of a batch, in the order of submission, and how many of each batch are kept. */
  batch: 'batch:',
  batches: 'batches',
  leases: 'leases',
  /** Leases of a type, by when they are due. Its length is what the limit is checked against. */
  running: 'running:',
  /** When a lease of a type may be due, at the earliest. */
  leases_due: 'leases_due',
  progress: 'progress',
  /** Leases of a worker that it has to be told to cancel. */
  cancels: 'cancels:',
  finished: 'finished:',
  /** Stream of what has ended in a status, by time. */
  done: 'done:',
  /** Of these, `<status> <entry>`, those whose types say how long they are kept, by when they go. */
  kept: 'kept',
  /** By status: up to where the oldest in `done:` are such. */
  kept_passed: 'kept:passed',
  /** Of tasks that were taken back from a status, `<ref> <status>`: the last place there before that. */
  taken_back: 'taken_back',
  /** Stream of all tasks, by submission. */
  index: 'index',
  index_tidied: 'index:tidied',
  index_looked_at: 'index:looked_at',
  /** The task that an idempotency key stands for. */
  key: 'key:',
  counts: 'counts',
  /** How many tasks are unfinished and finished, over all types. */
  totals: 'totals',
  events: 'events',
  /** Entries whose contents were erased, by number: they take the place of those in the stream. */
  erased_events: 'events:erased',
  /** Bytes of all events that there ever were. */
  event_bytes: 'events:bytes',
  /** When the tasks that were removed had ended, at the latest: no event after that is of one of them. */
  ended_until: 'ended_until',
  event_clock: 'events:clock',
  /** The number before the first event that there ever was. */
  event_birth: 'events:birth',
  /** Where numbers were left out, `<last before>:<first after, less 1>`, newest first. */
  event_skips: 'events:skips',
  /** Lease and place of a named reader of events. */
  reader: 'reader:',
  /** There while somebody reads events. */
  readers: 'readers',
  partitions: 'partitions',
  /** Who restores the partition from a log, or that it is complete. */
  restoring: 'restoring',
  /** Type → what may start, `<type>/lanes` → its lanes. */
  rules: 'rules',
  /** When the store was found to have lost everything, 0 if it never was; lost with everything else. */
  birth: 'birth',
  back_off: 'back_off',
  schemas: 'schemas',
  defaults: 'defaults',
  ceilings: 'ceilings',
  /** Type → how long what has ended is kept, as JSON of what operators `set` and of what the `handler` says. */
  retention: 'retention',
  /** When a type was last served, and those known for good. */
  known: 'known',
  declared: 'declared',
  workers: 'workers',
  seen: 'seen',
  worked: 'worked',
  /** Workers that have left, whose traces are to be removed; those that are being looked for, and that still hold. */
  gone: 'gone',
  going: 'going',
  holding: 'holding',
  /** Where the next sweep goes on in hashes that are looked at in turn. */
  rounds: 'rounds',
  /** Processes that wait for a task of a type, and for a permit of it. */
  waiting: 'waiting:',
  blocked: 'blocked:',
  /** Lanes that have something to hand out, in their order, and the entry of each; types that may start nothing. */
  ready: 'ready',
  ready_lanes: 'ready:lanes',
  parked: 'parked',
  /** The many types of a worker, by their digest; processes that wait for one of them, and for which there are any. */
  typeset: 'typeset:',
  waiting_for_typeset: 'waiting_for_typeset:',
  waiting_typesets: 'waiting_typesets',
  /** The process that sweeps; the version before has one of its own. */
  keeper: 'maintainer',
  keeper_before: 'keeper',
  /** The API keys by their ids, and what tokens are signed with; in the first partition. */
  api_keys: 'api_keys',
  secret: 'secret',
  /** Calls of an API key that count for its rate. */
  calls: 'calls:',
  /** Schedules by their ids, when they tick next, and when each last made a task, and which. */
  schedules: 'schedules',
  ticks: 'ticks',
  made: 'made',
  /** What finished in each slot of ten seconds. */
  rates: 'rates:',
} as const

/** Where a store is: the prefix of its keys and the number of its database, which channels do not know of. */
export interface Names {
  prefix: string
  database: number
}

export function partitionPrefix({ prefix }: Names, partition: number): string {
  return `${prefix}:{${partition}}:`
}

/** Channels: what all processes hear, and what one does. */
export function channels({ prefix, database }: Names): { news: string; wake: string } {
  return { news: `${prefix}@${database}:news`, wake: `${prefix}@${database}:wake:` }
}

/** Extras of a task that has none: its tags, idempotency key and group as JSON. */
export const NO_EXTRAS = '{},null,null'

/** PartitionMessages are read until they have so many bytes. */
export const NOTICES_BYTES_MAX = 1024 * 1024

/** The constants of scripts, as Lua writes them. */
export function luaConstants(place: Names & { kind: string }): Map<string, string> {
  const text = (value: string) => `'${value}'`
  return new Map([
    ...Object.entries(KEYS).map(([name, value]) => [`KEY.${name}`, text(value)] as const),
    ...Object.entries(channels(place)).map(([name, value]) => [`CHANNEL.${name}`, text(value)] as const),
    ['WORKERS', text('workers')],
    ['NO_EXTRAS', text(NO_EXTRAS)],
    ['WAIT_ERROR', text(JSON.stringify(WAITED_TOO_LONG))],
    ['CLUSTER', String(place.kind === 'cluster')],
    // Lua passes at most some 8000 values to a call.
    ['CHUNK', '4000'],
    ['TYPES_NAMED_MAX', String(TYPES_NAMED_MAX)],
    ['FOLLOWED_MAX', String(FOLLOWED_MAX)],
    ['NOTICES_BYTES_MAX', String(NOTICES_BYTES_MAX)],
    ['PREDECESSORS_BYTES_MAX', String(TASK_LIMITS.predecessorsBytesMax)],
  ])
}
