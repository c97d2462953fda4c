import { v7 as uuidv7 } from 'uuid'
import type { OnFailure } from './flow.ts'
import { canonical, type Json } from './json.ts'
import type { Status, TimeoutReason } from './status.ts'
import { withoutTrace } from './trace-context.ts'

/** A task as everyone sees it. Times are milliseconds since the epoch, durations milliseconds. */
export interface Task {
  /** UUIDv7: sorts by the time of submission. */
  id: string
  type: string
  payload: Json
  /** 0–9, higher runs first. */
  priority: number
  status: Status
  /** Handler runs that started and ended by themselves or by their time-out. */
  attempts: number
  /** Times it was handed to a worker; a lost worker adds a delivery, not an attempt. */
  deliveries: number
  /** Retries after the first attempt. */
  maxRetry: number
  /** How long it may wait for its first start, counted from `runAt`; 0 = no limit. */
  queueTimeoutMs: number
  /** How long one attempt may run; 0 = no limit. */
  processTimeoutMs: number
  timeoutReason: TimeoutReason | null
  createdAt: number
  /** When it may start: at submission, after its delay, or after the back-off of a retry. */
  runAt: number
  /** Start of the latest attempt. */
  startedAt: number | null
  updatedAt: number
  completedAt: number | null
  workerId: string | null
  /** 0–100 or an object, the last one reported. */
  progress: Progress | null
  result: Json
  error: string | null
  tags: Readonly<Record<string, string>>
  idempotencyKey: string | null
  /** The tenant, account or customer within its type whose turn it takes; null: of none. */
  group: string | null
  /** The tasks that it waits for before it may start. */
  after: readonly string[]
  onFailure: OnFailure
  /** The name that it is counted under together with others; null: of none. */
  batch: string | null
}

export type Progress = number | { [key: string]: Json }

/** A task as it is asked for, complete and checked: what `completeSpec` makes of a caller's input. */
export interface TaskSpec {
  type: string
  payload: Json
  priority: number
  maxRetry: number
  queueTimeoutMs: number
  processTimeoutMs: number
  /** Earliest start relative to acceptance; ignored when `runAt` is given. */
  delayMs: number
  runAt: number | null
  tags: Readonly<Record<string, string>>
  idempotencyKey: string | null
  group: string | null
  /** Tasks to wait for: ids, or indexes of tasks that come earlier in the same batch. */
  after: readonly (string | number)[]
  onFailure: OnFailure
  batch: string | null
  /** The fields that the caller left out and a default has filled: they are no part of the request. */
  byDefault?: readonly DefaultedField[]
}

/** The fields whose defaults the handler of a type may set. */
export const DEFAULTED_FIELDS = ['maxRetry', 'queueTimeoutMs', 'processTimeoutMs'] as const
export type DefaultedField = (typeof DEFAULTED_FIELDS)[number]

/** The handler's defaults for tasks that do not set these fields themselves. */
export type SpecDefaults = Partial<Pick<TaskSpec, DefaultedField>>

export const TASK_DEFAULTS = {
  payload: {},
  priority: 0,
  maxRetry: 3,
  queueTimeoutMs: 600_000,
  processTimeoutMs: 300_000,
  delayMs: 0,
  runAt: null,
  tags: {},
  idempotencyKey: null,
  group: null,
  after: [],
  onFailure: 'cancel',
  batch: null,
} as const

/** A limit on everything that a caller may ask for. */
export const TASK_LIMITS = {
  typeCharsMax: 100,
  priorityMax: 9,
  retryMax: 1_000,
  /** Longest duration anywhere: a year. */
  durationMsMax: 366 * 86_400_000,
  tagsMax: 16,
  tagKeyCharsMax: 64,
  tagValueCharsMax: 256,
  idempotencyKeyCharsMax: 255,
  groupCharsMax: 128,
  payloadBytesMax: 1024 * 1024,
  resultBytesMax: 1024 * 1024,
  progressBytesMax: 16 * 1024,
  errorCharsMax: 16_384,
  batchBytesMax: 16 * 1024 * 1024,
  batchTasksMax: 10_000,
  /** Tasks that one may wait for, and that may wait for one. */
  afterMax: 1_000,
  /** Results of predecessors that a task is handed with its lease; the others are read one by one. */
  predecessorsBytesMax: 1024 * 1024,
  /** What all tasks of one submission wait for together: each is a row, written in one step. */
  edgesMax: 20_000,
  successorsMax: 10_000,
} as const

/** What a group, or a batch, may be called: 1 to 128 characters, none of them a control character. */
export const GROUP_PATTERN = /^\P{Cc}{1,128}$/u

/**
 * What a type may be called: it stands in URLs, MQTT topics, Redis keys and metric labels, so it holds only letters,
 * digits and `. _ : -`, starts with a letter or digit, and has at most 100 characters.
 */
export const TYPE_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$/

/** Fills a spec's gaps with the defaults. The values that are given must have been checked. */
export function completeSpec(input: Pick<TaskSpec, 'type'> & Partial<TaskSpec>): TaskSpec {
  return { ...TASK_DEFAULTS, ...input }
}

const NONE: readonly string[] = []

/**
 * A task as it is when it has just been accepted.
 *
 * @param after the tasks that it waits for, by their ids
 */
export function acceptedTask(spec: TaskSpec, id: string, now: number, after = NONE): Task {
  const { type, payload, priority, maxRetry, queueTimeoutMs, processTimeoutMs, tags, idempotencyKey, group } = spec
  return {
    id,
    type,
    payload,
    priority,
    status: 'pending',
    attempts: 0,
    deliveries: 0,
    maxRetry,
    queueTimeoutMs,
    processTimeoutMs,
    timeoutReason: null,
    createdAt: now,
    runAt: Math.max(spec.runAt ?? now + spec.delayMs, now),
    startedAt: null,
    updatedAt: now,
    completedAt: null,
    workerId: null,
    progress: null,
    result: null,
    error: null,
    tags,
    idempotencyKey,
    group,
    after,
    onFailure: spec.onFailure,
    batch: spec.batch,
  }
}

/** What a task was asked for, as far as it tells: a start that is still to come as a time, one that is over not. */
export function specOfTask(task: Task, now: number): TaskSpec {
  const { type, payload, priority, maxRetry, queueTimeoutMs, processTimeoutMs, runAt, tags, idempotencyKey } = task
  const { group, after, onFailure, batch } = task
  const asked = { type, payload, priority, maxRetry, queueTimeoutMs, processTimeoutMs, tags, idempotencyKey }
  return { ...asked, group, after, onFailure, batch, delayMs: 0, runAt: runAt > now ? runAt : null }
}

/** Random bytes are drawn many at a time: one draw per id costs as much as storing the task. */
const RANDOM_BYTES = 16
const pool = new Uint8Array(256 * RANDOM_BYTES)
let drawn = pool.length

/** A new task id: UUIDv7, so that ids sort by time of submission. */
export function newTaskId(now: number): string {
  if (drawn === pool.length) {
    crypto.getRandomValues(pool)
    drawn = 0
  }
  const random = pool.subarray(drawn, drawn + RANDOM_BYTES)
  drawn += RANDOM_BYTES
  return uuidv7({ msecs: now, random })
}

/**
 * The text that a known idempotency key is compared by: everything the caller asked for but the key itself, the batch
 * it is counted under and the trace that the call was part of. Defaults are left out: a handler may change them
 * between two calls. `runAt` counts as given, so a repeated call with the same delay is the same call.
 */
export function sameRequest(spec: TaskSpec): string {
  return canonical(requestOf(spec) as unknown as Json)
}

/** Whether a stored request, as `sameRequest` wrote it, is the one that is made now. */
export function isSameRequest(stored: string, spec: TaskSpec): boolean {
  return stored === sameRequest(spec) || isSameAsked(JSON.parse(stored), requestOf(spec))
}

/**
 * Whether the same was asked for twice, each without its defaults. Earlier versions stored defaults as if they had been
 * asked for: a stored request that has all these fields is compared only by those that the caller sets now.
 */
export function isSameAsked(stored: object, asked: object): boolean {
  const before = stored as Record<string, unknown>
  const hasAll = DEFAULTED_FIELDS.every((field) => field in before)
  const filled = hasAll ? Object.fromEntries(DEFAULTED_FIELDS.map((field) => [field, before[field]])) : {}
  return canonical(stored as Json) === canonical({ ...filled, ...asked } as Json)
}

/** Without the fields that a default has filled. */
export function withoutDefaults<T extends Partial<TaskSpec>>({ byDefault = [], ...asked }: T): Omit<T, 'byDefault'> {
  if (byDefault.length === 0) return asked
  return Object.fromEntries(
    Object.entries(asked).filter(([name]) => !byDefault.includes(name as DefaultedField)),
  ) as typeof asked
}

function requestOf(spec: TaskSpec): object {
  const { idempotencyKey: _, batch: __, group, after, onFailure, ...asked } = withoutDefaults(spec)
  return {
    ...asked,
    tags: withoutTrace(asked.tags),
    // What is not asked for is left out: keys that were used before there was such a thing compare as they did.
    ...(group === null ? {} : { group }),
    ...(after.length === 0 ? {} : { after, onFailure }),
  }
}
