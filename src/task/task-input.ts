import { aboveCeilings, type Ceilings } from './ceilings.ts'
import { parseDurationMs } from './duration.ts'
import { type FieldError, XQueueError } from './errors.ts'
import { ON_FAILURE, ON_FAILURE_SUMMARY, type OnFailure } from './flow.ts'
import { faultIn, isTooDeep, type Json, type JsonFault, joined, TOO_DEEP } from './json.ts'
import { Type } from './json-schema.ts'
import { NO_TIME, parseTime } from './rfc3339.ts'
import {
  completeSpec,
  DEFAULTED_FIELDS,
  type DefaultedField,
  GROUP_PATTERN,
  type SpecDefaults,
  TASK_LIMITS,
  type TaskSpec,
  TYPE_PATTERN,
} from './task.ts'
import { USES_LIMITS, type Uses, usesErrors } from './uses.ts'

/** A requested task, over HTTP or a topic: its schema, and the conversion to a spec. */

/** Our own format, which only its parser checks. */
export const DURATION_FORMAT = 'duration-with-units'
export const DurationSchema = durationOf({ title: 'Duration', most: TASK_LIMITS.durationMsMax })

export const TypeNameSchema = Type.String({ maxLength: TASK_LIMITS.typeCharsMax, pattern: TYPE_PATTERN.source })

/** GROUP_PATTERN without JavaScript-only syntax. */
const NO_CONTROLS = '^[^\\u0000-\\u001f\\u007f-\\u009f]+$'
/** A batch is part of a URL, where these two names would change the path. */
const NO_DOTS = `^(?!\\.{1,2}$)${NO_CONTROLS.slice(1)}`
export const GroupSchema = Type.String({
  minLength: 1,
  maxLength: TASK_LIMITS.groupCharsMax,
  pattern: NO_CONTROLS,
  description: 'Tenant, account or customer; the groups of a type take turns and can have their own limit',
})
export const WorkerIdSchema = Type.String({
  minLength: 1,
  maxLength: 100,
  pattern: NO_CONTROLS,
  description: 'Name of the worker in lists and at its tasks, such as host and process id; default: its address',
})
export const BatchSchema = Type.String({
  minLength: 1,
  maxLength: TASK_LIMITS.groupCharsMax,
  pattern: NO_DOTS,
  description: 'Name under which tasks are counted, listed, canceled and retried together',
})

export const UsesSchema = Type.Record(Type.Integer({ minimum: 1, maximum: USES_LIMITS.unitsMax }), {
  maxProperties: USES_LIMITS.namesMax,
  description: 'Units of named limits that the task uses while it runs: {"gpu": 1}. Default: what its handler declares',
})

/** A filter by a tag. */
export const TAG_FILTER_PATTERN = '^([^:]|\\\\:)+:'

const TEXT = '[^\\u0000-\\u001f\\u007f-\\u009f]'

/** As `refuseLimitChange` of the stores, in the words that every JSON Schema library reads. */
export const LIMIT_NAME_PATTERN =
  `^(type:[^/]+|group:[^/]+/${TEXT}{1,${TASK_LIMITS.groupCharsMax}}|` +
  `(?!type:|group:|\\.{1,2}$)${TEXT}{1,${USES_LIMITS.nameCharsMax}})$`

/** Messages for text that does not match a pattern or format of these schemas. */
export const FORMS: Readonly<Record<string, string>> = {
  [TYPE_PATTERN.source]:
    'must begin with a letter or digit, followed by letters, digits and . _ : -, such as daily-report',
  [NO_CONTROLS]: 'must not contain control characters',
  [NO_DOTS]: 'must not contain control characters and must not be . or ..',
  [TAG_FILTER_PATTERN]: 'must be key:value, such as customer:7',
  [LIMIT_NAME_PATTERN]:
    `must be a name of up to ${USES_LIMITS.nameCharsMax} characters, ` + 'type:TYPE, group:TYPE/GROUP or group:TYPE/*',
  'date-time': NO_TIME,
}

/** Other queues, such as the Go XQueue, have priorities up to 10; their highest maps to ours. */
const PRIORITY_ACCEPTED_MAX = 10

const TaskReferenceSchema = {
  title: 'TaskReference',
  oneOf: [
    { type: 'string', maxLength: 100 },
    { type: 'integer', minimum: 0, maximum: TASK_LIMITS.batchTasksMax - 1 },
  ],
}

export const TaskInputSchema = Type.Object(
  {
    type: Type.String({ minLength: 1, maxLength: TASK_LIMITS.typeCharsMax, description: 'Task type' }),
    payload: { description: 'Any JSON (default: {})' },
    priority: Type.Integer({
      minimum: 0,
      maximum: PRIORITY_ACCEPTED_MAX,
      description: 'Tasks with a higher priority run first; 10 counts as 9',
    }),
    max_retry: Type.Integer({ minimum: 0, maximum: TASK_LIMITS.retryMax }),
    queue_timeout: DurationSchema,
    process_timeout: DurationSchema,
    delay: DurationSchema,
    run_at: Type.String({
      maxLength: 40,
      format: 'date-time',
      description: 'Time of the start, instead of delay; up to 366 days ahead',
    }),
    tags: Type.Record(Type.String({ maxLength: TASK_LIMITS.tagValueCharsMax }), {
      maxProperties: TASK_LIMITS.tagsMax,
      propertyNames: { minLength: 1, maxLength: TASK_LIMITS.tagKeyCharsMax },
    }),
    idempotency_key: Type.String({ minLength: 1, maxLength: TASK_LIMITS.idempotencyKeyCharsMax }),
    group: GroupSchema,
    uses: UsesSchema,
    after: Type.Array(TaskReferenceSchema, {
      maxItems: TASK_LIMITS.afterMax,
      uniqueItems: true,
      description: 'Tasks to wait for: ids, or in a batch also positions of earlier tasks, from 0',
    }),
    on_failure: Type.Enum([...ON_FAILURE], {
      description: `If one of these ends without success: ${ON_FAILURE_SUMMARY}`,
    }),
    batch: BatchSchema,
  },
  {
    additionalProperties: false,
    required: ['type'],
    not: { required: ['run_at', 'delay'] },
    title: 'TaskInput',
  },
)

export interface TaskInput {
  type: string
  payload?: unknown
  priority?: number
  max_retry?: number
  queue_timeout?: number | string
  process_timeout?: number | string
  delay?: number | string
  run_at?: string
  tags?: Record<string, string>
  idempotency_key?: string
  group?: string
  uses?: Record<string, number>
  after?: (string | number)[]
  on_failure?: OnFailure
  batch?: string
}

/** Data to complete and validate submissions of a type. */
export interface KnownType {
  defaults: SpecDefaults
  ceilings: Ceilings
  check(payload: Json): FieldError[] | Promise<FieldError[]>
  /** Computes the units of named limits, if the handler is here and has a function for that. */
  usesOf?: ((payload: Json) => unknown) | null
}

const LIMIT_FIELDS = ['concurrency_key', 'max_concurrency']

/**
 * Limits belong to the type: a task with one gets an error with the way to set it, before unknown fields are checked.
 * @throws XQueueError `type_owns_limits`
 */
export function refuseTaskLimits(body: unknown): void {
  if (typeof body !== 'object' || body === null) return
  const field = LIMIT_FIELDS.find((name) => name in body)
  if (!field) return
  const remedy = 'set it for the whole type with POST /api/v1/concurrency {"task_type", "max_concurrency"}'
  const errors = [{ path: field, message: 'limits belong to the task type' }]
  throw new XQueueError('type_owns_limits', `${field} is not a field of a task: ${remedy}`, { errors })
}

/** Checked first, because every further check of so many entries has a cost. @throws XQueueError `too_large` */
export function refuseManyEdges(tasks: readonly unknown[]): void {
  let edges = 0
  for (const task of tasks) {
    const { after } = (task ?? {}) as { after?: unknown }
    if (Array.isArray(after)) edges += after.length
  }
  if (edges <= TASK_LIMITS.edgesMax) return
  const detail = `\`after\` has ${edges} entries in all tasks of this call, the maximum is ${TASK_LIMITS.edgesMax}`
  throw new XQueueError(
    'too_large',
    `${detail}: submit the tasks in several calls, or let them wait for an intermediate task`,
  )
}

/**
 * Converts a checked request body to the spec to submit. Adds its errors to `errors`, under the path `at`.
 *
 * @param place position in the batch; the task can wait for earlier positions
 */
export async function specOf(
  input: TaskInput,
  known: KnownType | null,
  at: string,
  errors: FieldError[],
  place = 0,
): Promise<TaskSpec> {
  const before = errors.length
  const payload = (input.payload === undefined ? {} : input.payload) as Json
  const ms = (field: 'queue_timeout' | 'process_timeout' | 'delay') => {
    const value = input[field]
    if (value === undefined) return undefined
    try {
      return parseDurationMs(value)
    } catch (error) {
      errors.push({ path: at + field, message: (error as Error).message })
      return undefined
    }
  }
  const delayMs = ms('delay')
  const runAt = input.run_at === undefined ? null : parseTime(input.run_at)
  if (runAt === undefined) {
    errors.push({ path: `${at}run_at`, message: NO_TIME })
  } else if (runAt !== null && delayMs !== undefined) {
    errors.push({ path: `${at}run_at`, message: 'cannot be given together with delay' })
  } else if (runAt !== null && runAt > Date.now() + TASK_LIMITS.durationMsMax) {
    errors.push({ path: `${at}run_at`, message: 'is more than 366 days ahead' })
  }
  for (const field of ['group', 'batch'] as const) {
    const name = input[field]
    if (name === undefined || GROUP_PATTERN.test(name)) continue
    errors.push({ path: at + field, message: 'must not contain control characters' })
  }
  if (input.uses !== undefined) errors.push(...usesErrors(input.uses, `${at}uses`))
  checkAfter(input.after ?? [], place, at, errors)
  const { fault, bytes } = measured(payload)
  if (fault) errors.push({ path: at + joined('payload', fault.path), message: fault.message })
  if (bytes > TASK_LIMITS.payloadBytesMax) {
    const detail = `${at}payload has ${bytes} bytes, the maximum is ${TASK_LIMITS.payloadBytesMax}`
    throw new XQueueError('too_large', `${detail}: store the data elsewhere and submit a reference`)
  }
  const queueTimeoutMs = ms('queue_timeout')
  const processTimeoutMs = ms('process_timeout')
  if (known && errors.length === before) {
    for (const { path, message } of await known.check(payload)) errors.push({ path: at + path, message })
  }
  const { usesOfPayload = false, ...defaults } = known?.defaults ?? {}
  const computed =
    usesOfPayload && input.uses === undefined && errors.length === before
      ? usesFrom(input, known!, payload, at, errors)
      : {}
  const spec = completeSpec({
    type: input.type,
    payload,
    // A time before 1970, as .NET and Go write an unset time, is due like any time in the past.
    runAt: runAt === null || runAt === undefined ? null : Math.max(runAt, 0),
    byDefault: leftOut(input),
    ...defaults,
    ...computed,
    ...(input.priority === undefined ? {} : { priority: Math.min(input.priority, TASK_LIMITS.priorityMax) }),
    ...(delayMs === undefined ? {} : { delayMs }),
    ...(input.max_retry === undefined ? {} : { maxRetry: input.max_retry }),
    ...(queueTimeoutMs === undefined ? {} : { queueTimeoutMs }),
    ...(processTimeoutMs === undefined ? {} : { processTimeoutMs }),
    ...(input.tags === undefined ? {} : { tags: input.tags }),
    ...(input.idempotency_key === undefined ? {} : { idempotencyKey: input.idempotency_key }),
    ...(input.group === undefined ? {} : { group: input.group }),
    ...(input.uses === undefined ? {} : { uses: input.uses }),
    ...(input.after === undefined ? {} : { after: input.after }),
    ...(input.on_failure === undefined ? {} : { onFailure: input.on_failure }),
    ...(input.batch === undefined ? {} : { batch: input.batch }),
  })
  if (known && errors.length === before) errors.push(...aboveCeilings(spec, bytes, known.ceilings, at))
  return spec
}

/** The uses that the handler's function computes. */
function usesFrom({ type }: TaskInput, { usesOf }: KnownType, payload: Json, at: string, errors: FieldError[]) {
  const path = `${at}uses`
  if (!usesOf) {
    const what = `is required: the handler of "${type}" computes it, and this server does not have the handler`
    errors.push({ path, message: `${what}: start it with --handlers, or give \`uses\`` })
    return {}
  }
  try {
    const uses = usesOf(payload)
    const wrong = usesErrors(uses, path)
    errors.push(...wrong)
    return wrong.length > 0 ? {} : { uses: { ...(uses as Uses) } }
  } catch (error) {
    const why = error instanceof Error ? error.message : typeof error
    errors.push({ path, message: `cannot be computed from the payload: ${why.toWellFormed().slice(0, 200)}` })
    return {}
  }
}

const LEFT_OUT_ALL: readonly DefaultedField[] = DEFAULTED_FIELDS
const INPUT_NAMES = {
  maxRetry: 'max_retry',
  queueTimeoutMs: 'queue_timeout',
  processTimeoutMs: 'process_timeout',
  uses: 'uses',
} as const satisfies Record<DefaultedField, keyof TaskInput>

/** The fields that a default fills. */
function leftOut(input: TaskInput): readonly DefaultedField[] {
  const fields = DEFAULTED_FIELDS.filter((field) => input[INPUT_NAMES[field]] === undefined)
  // Most callers set none, so their specs share one list.
  return fields.length === DEFAULTED_FIELDS.length ? LEFT_OUT_ALL : fields
}

/** The size of a payload as JSON, or its error. It was parsed from JSON, so only text can be invalid. */
function measured(payload: Json): { fault: JsonFault | null; bytes: number } {
  let text: string
  try {
    text = JSON.stringify(payload)
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    return { fault: { path: '', message: TOO_DEEP }, bytes: 0 }
  }
  if (isTooDeep(text)) return { fault: { path: '', message: TOO_DEEP }, bytes: 0 }
  return { fault: text.includes('\\ud') ? faultIn(payload) : null, bytes: Buffer.byteLength(text) }
}

/** A task follows its predecessors in the batch, so cycles are impossible. */
function checkAfter(after: readonly (string | number)[], place: number, at: string, errors: FieldError[]): void {
  const inBatch = at !== ''
  const index = after.findIndex((id) => typeof id === 'number' && !(inBatch && id < place))
  // One error per task is enough: a batch can have millions of entries.
  if (index >= 0) errors.push({ path: `${at}after[${index}]`, message: wrongPlace(after[index]!, place, inBatch) })
}

function wrongPlace(id: string | number, place: number, inBatch: boolean): string {
  if (!inBatch) {
    const remedy = 'use the ids of tasks, or submit the tasks together as a batch'
    return `is the position ${id} in a batch, but this task is submitted alone: ${remedy}`
  }
  const which = id === place ? 'the position of this task itself' : `but this task has the position ${place}`
  return `is ${id}, ${which}: a task can wait for earlier tasks of its batch only, so move it behind them`
}

/** @throws XQueueError `invalid_request` when there is any */
export function throwErrors(errors: FieldError[]): void {
  const [first] = errors
  if (!first) return
  const ofPayload = errors.every(({ path }) => /(^|\.)payload(\.|$)/.test(path))
  const code = ofPayload ? 'invalid_payload' : 'invalid_request'
  throw new XQueueError(code, `${first.path} ${first.message}`, { errors })
}

/** In milliseconds. Only the parser of durations knows the length of a text. */
export function durationOf({ title, meaning = '', least = 0, most }: DurationBounds) {
  return {
    title,
    oneOf: [
      { type: 'number', minimum: least / 1_000, maximum: most / 1_000 },
      { type: 'string', maxLength: 64, format: DURATION_FORMAT },
    ],
    description: `${meaning}Seconds, or text with units: "90s", "1h30m"`,
  }
}

interface DurationBounds {
  title: string
  /** The start of its description. */
  meaning?: string
  least?: number
  most: number
}
