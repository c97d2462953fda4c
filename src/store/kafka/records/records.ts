import type { ValidateFunction } from 'ajv'
import { Ajv2020 } from 'ajv/dist/2020.js'
import {
  ATTEMPT_OUTCOMES,
  ATTEMPTS_MAX,
  type AttemptJson,
  attemptJson,
  attemptOfJson,
  type KeptAttempts,
  mayHaveAttempts,
} from '../../../task/attempt.ts'
import { XQueueError } from '../../../task/errors.ts'
import type { TaskEvent } from '../../../task/event.ts'
import { eventJson } from '../../../task/event.ts'
import { ON_FAILURE, type OnFailure } from '../../../task/flow.ts'
import type { Json } from '../../../task/json.ts'
import { type JsonSchema, Type } from '../../../task/json-schema.ts'
import { isFinal, STATUSES } from '../../../task/status.ts'
import {
  acceptedTask,
  specOfTask,
  TASK_DEFAULTS,
  TASK_LIMITS,
  type Task,
  type TaskSpec,
  TYPE_PATTERN,
} from '../../../task/task.ts'
import { type TaskJson, taskJson, taskOfJson } from '../../../task/task-json.ts'
import { NO_USES, USES_LIMITS, type Uses } from '../../../task/uses.ts'
import type { Remembered, State } from '../../state.ts'
import type { LogRecord } from '../client/log.ts'

/** The format of tasks and events in topics. Every record's key is the id of its task. */

/** The record of an accepted task: the requested fields that differ from the defaults, its id and its time. */
interface AcceptedJson {
  id: string
  type: string
  payload: Json
  priority: number
  max_retry: number
  /** Seconds. */
  queue_timeout: number
  process_timeout: number
  /** Milliseconds since the epoch. */
  created_ms: number
  run_ms: number
  /** As requested, ms: a part of the request that its idempotency key represents. */
  delay_ms?: number
  asked_run_ms?: number
  /** As requested, with positions in its batch; if omitted, the same as `after`. */
  asked_after?: readonly (string | number)[]
  tags?: Readonly<Record<string, string>>
  idempotency_key?: string
  group?: string
  uses?: Uses
  after?: readonly string[]
  on_failure?: OnFailure
  batch?: string
}

const ajv = new Ajv2020({ strict: false })
const Id = Type.String({ pattern: '^[0-9a-f-]{36}$' })
const Count = Type.Integer({ minimum: 0 })
const Duration = Type.Number({ minimum: 0 })
const Nullable = <T extends JsonSchema>(schema: T) => Type.Union([schema, Type.Null()])
/** Fields that both forms of a task have. */
const COMMON = {
  id: Id,
  type: Type.String({ pattern: TYPE_PATTERN.source }),
  payload: Type.Unknown(),
  priority: Type.Integer({ minimum: 0, maximum: TASK_LIMITS.priorityMax }),
  max_retry: Count,
  queue_timeout: Duration,
  process_timeout: Duration,
}
const Tags = Type.Record(Type.String())
const Units = Type.Record(Type.Integer({ minimum: 1, maximum: USES_LIMITS.unitsMax }))
const Failure = Type.Enum([...ON_FAILURE])

const isAccepted = ajv.compile(
  Type.Object({
    ...COMMON,
    created_ms: Count,
    run_ms: Count,
    delay_ms: Type.Optional(Duration),
    asked_run_ms: Type.Optional(Type.Number()),
    asked_after: Type.Optional(Type.Array(Type.Union([Type.String(), Count]))),
    tags: Type.Optional(Tags),
    idempotency_key: Type.Optional(Type.String()),
    group: Type.Optional(Type.String()),
    uses: Type.Optional(Units),
    after: Type.Optional(Type.Array(Type.String())),
    on_failure: Type.Optional(Failure),
    batch: Type.Optional(Type.String()),
  }),
)
const isOutcome = ajv.compile(
  Type.Object({
    ...COMMON,
    status: Type.Enum([...STATUSES]),
    attempts: Count,
    deliveries: Count,
    created_at: Type.String(),
    run_at: Type.String(),
    updated_at: Type.String(),
    started_at: Nullable(Type.String()),
    completed_at: Nullable(Type.String()),
    error: Nullable(Type.String()),
    tags: Tags,
    idempotency_key: Nullable(Type.String()),
    group: Nullable(Type.String()),
    uses: Type.Optional(Units),
    after: Type.Optional(Type.Array(Type.String())),
    on_failure: Type.Optional(Failure),
    batch: Type.Optional(Nullable(Type.String())),
    earlier_attempts: Type.Optional(
      Type.Array(
        Type.Object({
          number: Count,
          delivery: Count,
          outcome: Type.Enum([...ATTEMPT_OUTCOMES]),
          worker_id: Nullable(Type.String()),
          started_at: Type.String(),
          ended_at: Nullable(Type.String()),
          error: Nullable(Type.String()),
        }),
        { maxItems: ATTEMPTS_MAX },
      ),
    ),
    earlier_attempts_left_out: Type.Optional(Count),
  }),
)

const CLOUD_EVENT = new Map([['content-type', 'application/cloudevents+json']])

/** The times and predecessors of a task as requested. */
export type Asked = Pick<TaskSpec, 'delayMs' | 'runAt' | 'after'>

export function acceptedRecord(topic: string, task: Task, spec: Asked): LogRecord {
  const json: AcceptedJson = {
    id: task.id,
    type: task.type,
    payload: task.payload,
    priority: task.priority,
    max_retry: task.maxRetry,
    queue_timeout: task.queueTimeoutMs / 1_000,
    process_timeout: task.processTimeoutMs / 1_000,
    created_ms: task.createdAt,
    run_ms: task.runAt,
  }
  if (spec.delayMs !== 0) json.delay_ms = spec.delayMs
  if (spec.runAt !== null) json.asked_run_ms = spec.runAt
  if (Object.keys(task.tags).length > 0) json.tags = task.tags
  if (task.idempotencyKey !== null) json.idempotency_key = task.idempotencyKey
  if (task.group !== null) json.group = task.group
  if (Object.keys(task.uses).length > 0) json.uses = task.uses
  if (task.batch !== null) json.batch = task.batch
  if (task.after.length > 0) {
    json.after = task.after
    json.on_failure = task.onFailure
    if (spec.after.some((id) => typeof id === 'number')) json.asked_after = spec.after
  }
  return { topic, key: task.id, value: JSON.stringify(json) }
}

/**
 * Reads a record of `acceptedRecord`.
 * @throws XQueueError `invalid_request` for any other record: other programs can write to the topic
 */
export function acceptedOf(value: Buffer | null): Remembered {
  const json = read<AcceptedJson>(value, isAccepted, 'an accepted task')
  const spec: TaskSpec = {
    ...TASK_DEFAULTS,
    type: json.type,
    payload: json.payload,
    priority: json.priority,
    maxRetry: json.max_retry,
    queueTimeoutMs: json.queue_timeout * 1_000,
    processTimeoutMs: json.process_timeout * 1_000,
    delayMs: json.delay_ms ?? 0,
    runAt: json.asked_run_ms ?? null,
    tags: json.tags ?? {},
    idempotencyKey: json.idempotency_key ?? null,
    group: json.group ?? null,
    uses: json.uses ?? NO_USES,
    after: json.asked_after ?? json.after ?? [],
    onFailure: json.on_failure ?? 'cancel',
    batch: json.batch ?? null,
  }
  return { task: { ...acceptedTask(spec, json.id, json.created_ms, json.after), runAt: json.run_ms }, spec }
}

/** The attempts of a task in its record, as the HTTP API shows them; omitted if there are none. */
interface AttemptsJson {
  earlier_attempts?: AttemptJson[]
  earlier_attempts_left_out?: number
}

/** Writes the whole task in its present state, with the field names of the HTTP API. */
export function outcomeRecord(topic: string, task: Task, kept: KeptAttempts): LogRecord {
  const json: TaskJson & AttemptsJson = taskJson(task)
  if (kept.attempts.length > 0) {
    json.earlier_attempts = kept.attempts.map(attemptJson)
    json.earlier_attempts_left_out = kept.leftOut
  }
  return { topic, key: task.id, value: JSON.stringify(json) }
}

/** The records of tasks with the attempts that a state has kept. Few tasks have any, so most are not looked up. */
export async function outcomeRecords(state: State, topic: string, tasks: readonly Task[]): Promise<LogRecord[]> {
  const ids = tasks.filter(mayHaveAttempts).map(({ id }) => id)
  const kept = ids.length === 0 ? [] : await state.attempts(ids)
  const byId = new Map(ids.map((id, index) => [id, kept[index]!]))
  return tasks.map((task) => outcomeRecord(topic, task, byId.get(task.id) ?? { attempts: [], leftOut: 0 }))
}

/** Deletes a task from a compacted topic. */
export function removedRecord(topic: string, taskId: string): LogRecord {
  return { topic, key: taskId, value: null }
}

/**
 * Reads a record of `outcomeRecord`.
 * @throws XQueueError `invalid_request` for any other record
 */
export function outcomeOf(value: Buffer): Remembered {
  const json = read<TaskJson & AttemptsJson>(value, isOutcome, 'a task')
  const task = taskOfJson(json)
  const times = [task.createdAt, task.runAt, task.updatedAt, task.startedAt ?? 0, task.completedAt ?? 0]
  if (times.some(Number.isNaN) || (isFinal(task.status) && task.completedAt === null)) {
    throw new XQueueError('invalid_request', 'the record is not a task: its times are invalid')
  }
  const { earlier_attempts: earlier = [], earlier_attempts_left_out: leftOut = 0 } = json
  const attempts = earlier.map(attemptOfJson)
  if (attempts.some(({ startedAt, endedAt }) => Number.isNaN(startedAt) || Number.isNaN(endedAt))) {
    throw new XQueueError('invalid_request', 'the record is not a task: the times of its attempts are invalid')
  }
  return { task, spec: specOfTask(task, task.runAt), ...(attempts.length > 0 && { kept: { attempts, leftOut } }) }
}

/** Writes a change as a CloudEvent in structured form. */
export function eventRecord(topic: string, source: string, event: TaskEvent): LogRecord {
  const envelope = JSON.stringify({
    specversion: '1.0',
    id: event.id,
    source,
    type: `xqueue.task.${event.kind === 'status' ? event.status : event.kind}`,
    subject: event.taskId,
    time: new Date(event.at).toISOString(),
    datacontenttype: 'application/json',
  })
  const value = `${envelope.slice(0, -1)},"data":${eventJson(event)}}`
  return { topic, key: event.taskId, value, headers: CLOUD_EVENT }
}

/**
 * Reads the JSON of a record and validates its form.
 * @param what names the form in the error
 * @throws XQueueError `invalid_request`
 */
export function read<T>(value: Buffer | null, isValid: ValidateFunction, what: string): T {
  let json: unknown
  try {
    json = JSON.parse(value?.toString() ?? '')
  } catch (error) {
    throw new XQueueError(
      'invalid_request',
      `the record is not ${what}: it is not valid JSON (${(error as Error).message})`,
    )
  }
  if (isValid(json)) return json as T
  const [{ instancePath, message } = { instancePath: '', message: '' }] = isValid.errors ?? []
  throw new XQueueError('invalid_request', `the record is not ${what}: ${instancePath || 'the value'} ${message}`)
}

/** Returns the result of `read`, or its error. */
export function readable<T>(reading: () => T): T | XQueueError {
  try {
    return reading()
  } catch (error) {
    if (error instanceof XQueueError) return error
    throw error
  }
}
