import { v7 as uuidv7 } from 'uuid'
import { DURATION_MS_MAX } from './duration.ts'
import type { OnFailure } from './flow.ts'
import { canonical, type Json } from './json.ts'
import type { Status, TimeoutReason } from './status.ts'
import { withoutTrace } from './trace-context.ts'
import { NO_USES, type Uses } from './uses.ts'

/** A task. Times are milliseconds since the epoch, durations milliseconds. */
export interface Task {
  /** UUIDv7: sorts by the time of submission. */
  id: string
  type: string
  payload: Json
  /** 0–9, higher runs first. */
  priority: number
  status: Status
  /** Handler runs that ended by themselves or by the time-out. */
  attempts: number
  /** Hand-outs to workers; a lost worker adds a delivery, not an attempt. */
  deliveries: number
  /** Retries after the first attempt. */
  maxRetry: number
  /** Maximum wait for the first start, counted from `runAt`; 0 = no limit. */
  queueTimeoutMs: number
  /** Maximum duration of an attempt; 0 = no limit. */
  processTimeoutMs: number
  timeoutReason: TimeoutReason | null
  createdAt: number
  /** Earliest start: at submission, after the delay, or after the back-off of a retry. */
  runAt: number
  /** Start of the latest attempt. */
  startedAt: number | null
  updatedAt: number
  completedAt: number | null
  workerId: string | null
  /** Latest progress: 0–100 or an object. */
  progress: Progress | null
  result: Json
  error: string | null
  tags: Readonly<Record<string, string>>
  idempotencyKey: string | null
  /** Tenant, account or customer within the type; null: none. */
  group: string | null
  /** Units of named limits that it uses while it runs. */
  uses: Uses
  /** The tasks that it waits for before it may start. */
  after: readonly string[]
  onFailure: OnFailure
  /** Batch of the task; null: none. */
  batch: string | null
}

export type Progress = number | { [key: string]: Json }

/** A requested task, complete and checked: the result of `completeSpec`. */
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
  uses: Uses
  /** Tasks to wait for: ids, or indexes of earlier tasks in the same batch. */
  after: readonly (string | number)[]
  onFailure: OnFailure
  batch: string | null
  /** Fields filled by defaults. They are not part of the request. */
  byDefault?: readonly DefaultedField[]
}

/** The fields whose defaults the handler of a type may set. */
export const DEFAULTED_FIELDS = ['maxRetry', 'queueTimeoutMs', 'processTimeoutMs', 'uses'] as const
/** Those that earlier versions stored with the request of an idempotency key. */
const DEFAULTED_BEFORE = ['maxRetry', 'queueTimeoutMs', 'processTimeoutMs'] as const
export type DefaultedField = (typeof DEFAULTED_FIELDS)[number]

/** The handler's defaults for tasks that do not set these fields themselves. */
export type SpecDefaults = Partial<Pick<TaskSpec, DefaultedField>> & {
  /** A function of the handler computes `uses` from the payload. */
  usesOfPayload?: true
}

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
  uses: NO_USES,
  after: [],
  onFailure: 'cancel',
  batch: null,
} as const

/** Bounds of all values in a request. */
export const TASK_LIMITS = {
  typeCharsMax: 100,
  priorityMax: 9,
  retryMax: 1_000,
  /** Longest duration anywhere: a year. */
  durationMsMax: DURATION_MS_MAX,
  /** Longest time for which a handler or a call may hold a type: 24 hours. */
  holdMsMax: 86_400_000,
  /** Shortest hold of a handler: without it, a task could be handed out thousands of times a second. */
  holdMsMin: 1_000,
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
  /** Maximum number of predecessors, and of tasks that wait for one task. */
  afterMax: 1_000,
  /** Results of predecessors that a task is handed with its lease; the others are read one by one. */
  predecessorsBytesMax: 1024 * 1024,
  /** Maximum of `after` entries in one submission: each is a row, and all are written in one step. */
  edgesMax: 20_000,
  successorsMax: 10_000,
} as const

/** Form of a group or batch name: 1 to 128 characters without control characters. */
export const GROUP_PATTERN = /^\P{Cc}{1,128}$/u

/**
 * Form of a type name. It is part of URLs, MQTT topics, Redis keys and metric labels, so it contains only letters,
 * digits and `. _ : -`, starts with a letter or digit, and has at most 100 characters.
 */
export const TYPE_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$/

/** Adds defaults to a spec. Its values must have been checked. */
export function completeSpec(input: Pick<TaskSpec, 'type'> & Partial<TaskSpec>): TaskSpec {
  return { ...TASK_DEFAULTS, ...input }
}

const NONE: readonly string[] = []

/**
 * A newly accepted task.
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
    uses: spec.uses,
    after,
    onFailure: spec.onFailure,
    batch: spec.batch,
  }
}

/** Reconstructs the request of a task. A start in the future becomes `runAt`; one in the past is omitted. */
export function specOfTask(task: Task, now: number): TaskSpec {
  const { type, payload, priority, maxRetry, queueTimeoutMs, processTimeoutMs, runAt, tags, idempotencyKey } = task
  const { group, uses, after, onFailure, batch } = task
  const asked = { type, payload, priority, maxRetry, queueTimeoutMs, processTimeoutMs, tags, idempotencyKey }
  return { ...asked, group, uses, after, onFailure, batch, delayMs: 0, runAt: runAt > now ? runAt : null }
}

/** Random bytes are generated in bulk, because a call per id costs as much as storing the task. */
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
 * The text that is compared for a known idempotency key: the request without the key, the batch and the trace
 * context. Defaults are omitted: a handler may change them
 * between two calls. `runAt` counts as given, so a repeated call with the same delay is the same call.
 */
export function sameRequest(spec: TaskSpec): string {
  return canonical(requestOf(spec) as unknown as Json)
}

/** Whether a stored request (written by `sameRequest`) equals the current one. */
export function isSameRequest(stored: string, spec: TaskSpec): boolean {
  return stored === sameRequest(spec) || isSameAsked(JSON.parse(stored), requestOf(spec))
}

/**
 * Whether two requests without defaults are equal. Earlier versions stored defaults as part of the request, so a stored
 * request with all these fields is compared only by the fields that the caller sets now.
 */
export function isSameAsked(stored: object, asked: object): boolean {
  const before = stored as Record<string, unknown>
  const hasAll = DEFAULTED_BEFORE.every((field) => field in before)
  const filled = hasAll ? Object.fromEntries(DEFAULTED_BEFORE.map((field) => [field, before[field]])) : {}
  return canonical(withoutNoUses(before)) === canonical(withoutNoUses({ ...filled, ...asked }))
}

/** Earlier versions stored no uses. */
function withoutNoUses({ uses = NO_USES, ...request }: Record<string, unknown>): Json {
  return (Object.keys(uses as Uses).length === 0 ? request : { ...request, uses }) as Json
}

/** Removes fields filled by defaults. */
export function withoutDefaults<T extends Partial<TaskSpec>>({ byDefault = [], ...asked }: T): Omit<T, 'byDefault'> {
  if (byDefault.length === 0) return asked
  return Object.fromEntries(
    Object.entries(asked).filter(([name]) => !byDefault.includes(name as DefaultedField)),
  ) as typeof asked
}

function requestOf(spec: TaskSpec): object {
  const { idempotencyKey: _, batch: __, group, uses = NO_USES, after, onFailure, ...asked } = withoutDefaults(spec)
  return {
    ...asked,
    tags: withoutTrace(asked.tags),
    // Absent fields are omitted, so that keys from before these fields existed still compare equal.
    ...(group === null ? {} : { group }),
    ...(Object.keys(uses).length === 0 ? {} : { uses }),
    ...(after.length === 0 ? {} : { after, onFailure }),
  }
}
