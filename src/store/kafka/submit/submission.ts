import { isUtf8 } from 'node:buffer'
import { createHash } from 'node:crypto'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { type FieldError, XQueueError } from '../../../task/errors.ts'
import { readMarked } from '../../../task/json.ts'
import { TASK_LIMITS } from '../../../task/task.ts'
import { refuseTaskLimits, type TaskInput, TaskInputSchema } from '../../../task/task-input.ts'
import { describeError } from '../../../task/thrown.ts'
import { type TraceContext, withTrace } from '../../../task/trace-context.ts'
import type { ReadRecord } from '../client/fetched.ts'

/** Reads the records of the submit topic: a task as over HTTP, plain or in a CloudEvent. */

/** Attributes of a CloudEvent that carry nothing beyond the type, the payload, and the idempotency key. */
const CONTEXT = [
  'specversion',
  'id',
  'source',
  'type',
  'subject',
  'time',
  'datacontenttype',
  'dataschema',
  'data',
  'data_base64',
]
/** Names of extension attributes have no `_`. */
const EXTENSIONS: Readonly<Record<string, keyof TaskInput>> = {
  priority: 'priority',
  maxretry: 'max_retry',
  queuetimeout: 'queue_timeout',
  processtimeout: 'process_timeout',
  delay: 'delay',
  runat: 'run_at',
  group: 'group',
  idempotencykey: 'idempotency_key',
}
const NUMBERS: readonly string[] = ['priority', 'max_retry']
const STRUCTURED = 'application/cloudevents+json'
const BATCHED = 'application/cloudevents-batch+json'

const isTaskInput = new Ajv2020({ strict: false, allErrors: true, validateFormats: false }).compile<TaskInput>(
  TaskInputSchema,
)

type Submitted = Pick<ReadRecord, 'key' | 'value' | 'headers'>

/** One task of a record, or the reason why it has none. */
export interface Submission {
  input: TaskInput | XQueueError
  /** The record for the dead letters if the task is refused; of a batch of events only the event. */
  source: Submitted
}

/** The tasks of a record: one, or one for each CloudEvent of a batch. An invalid event does not affect the others. */
export function submissionsOf(record: Submitted): Submission[] {
  const headers = new Map(record.headers.map(([name, text]) => [String(name).toLowerCase(), String(text)]))
  const trace = Object.fromEntries(headers) as TraceContext
  const submission = (source: Submitted, read: () => unknown): Submission => {
    const input = attempted(() => {
      const task = checked(read())
      return { ...task, tags: withTrace(task.tags ?? {}, trace) }
    })
    return { input, source }
  }
  if (!headers.get('content-type')?.startsWith(BATCHED)) return [submission(record, () => taskOf(record, headers))]
  const events = attempted(() => eventsOf(record.value))
  if (events instanceof XQueueError) return [{ input: events, source: record }]
  const own = record.headers.filter(([name]) => String(name).toLowerCase() !== 'content-type')
  const structured: Submitted['headers'] = [...own, [Buffer.from('content-type'), Buffer.from(STRUCTURED)]]
  return events.map((event) => {
    const source = { key: record.key, value: Buffer.from(JSON.stringify(event)), headers: structured }
    return submission(source, () => taskOfEvent(event))
  })
}

function attempted<T>(read: () => T): T | XQueueError {
  try {
    return read()
  } catch (error) {
    return error instanceof XQueueError ? error : invalid(describeError(error))
  }
}

function taskOf({ value }: Submitted, headers: ReadonlyMap<string, string>): unknown {
  if (headers.has('ce_specversion')) {
    const { data_base64: _, ...attributes } = attributesOf(headers)
    return taskOfEvent({ ...attributes, data: dataOf(value ?? Buffer.alloc(0), headers.get('content-type')) })
  }
  const body = jsonOf(value)
  const structured = headers.get('content-type')?.startsWith(STRUCTURED) || isCloudEvent(body)
  return structured ? taskOfEvent(body) : body
}

function eventsOf(value: Buffer | null): unknown[] {
  const events = jsonOf(value)
  if (!Array.isArray(events)) throw invalid('a batch of CloudEvents must be a JSON array of events')
  const { batchTasksMax } = TASK_LIMITS
  if (events.length > batchTasksMax) {
    throw invalid(`the batch has ${events.length} CloudEvents and may have ${batchTasksMax}: send smaller batches`)
  }
  return events
}

function jsonOf(value: Buffer | null): unknown {
  if (value === null || value.length === 0) throw invalid('the record is empty: it must hold a task as JSON')
  return parsed(value, 'the record')
}

/** The data of an event by its content type: JSON is parsed, text is a string, other bytes are Base64. */
function dataOf(bytes: Buffer, contentType: string | undefined): unknown {
  if (isJson(contentType)) return bytes.length === 0 ? undefined : parsed(bytes, 'the data of the CloudEvent')
  if (bytes.length === 0) return undefined
  return isUtf8(bytes) ? bytes.toString() : bytes.toString('base64')
}

function parsed(bytes: Buffer, what: string): unknown {
  if (!isUtf8(bytes)) throw invalid(`${what} is not UTF-8`)
  try {
    // A number that would change its value refuses only its own task, not the others of the batch.
    return readMarked(bytes.toString())
  } catch (error) {
    throw invalid(`${what} is not valid JSON (${(error as Error).message})`)
  }
}

function isJson(contentType: string | undefined): boolean {
  return contentType === undefined || /[/+]json\b/.test(contentType)
}

function isCloudEvent(body: unknown): boolean {
  return isObject(body) && 'specversion' in body && 'source' in body
}

function attributesOf(headers: ReadonlyMap<string, string>): Record<string, string> {
  const own = [...headers].filter(([name]) => name.startsWith('ce_'))
  return Object.fromEntries(own.map(([name, value]) => [name.slice('ce_'.length), value]))
}

/** The event's type is the task's, its data the payload; source and id together identify it. */
function taskOfEvent(event: unknown): unknown {
  if (!isObject(event)) throw invalid('the record is not a CloudEvent: it must be an object')
  const missing = ['id', 'source', 'type'].find((name) => typeof event[name] !== 'string' || event[name] === '')
  if (missing) throw invalid(`the CloudEvent has no ${missing}`)
  const { id, source, type, data_base64: base64 } = event as Record<string, string>
  const task: Record<string, unknown> = { type, idempotency_key: keyOfEvent(source!, id!) }
  if (base64 !== undefined) {
    if (event.data !== undefined) throw invalid('the CloudEvent has both data and data_base64: send only one of them')
    task.payload = dataOf(bytesOf(base64), String(event.datacontenttype ?? 'application/octet-stream'))
  } else if (event.data !== undefined) task.payload = event.data
  for (const [name, value] of Object.entries(event)) {
    if (CONTEXT.includes(name)) continue
    // Other attributes belong to the sender.
    const field = EXTENSIONS[name]
    if (field) task[field] = NUMBERS.includes(field) && typeof value === 'string' ? Number(value) : value
  }
  return task
}

/**
 * The idempotency key of an event, unique for each pair of source and id. `source#id` is used where it is unambiguous
 * and short enough: it is the key of events that earlier versions have accepted.
 */
function keyOfEvent(source: string, id: string): string {
  const plain = `${source}#${id}`
  const isClear = !source.includes('#') && !id.includes('#') && plain.length <= TASK_LIMITS.idempotencyKeyCharsMax
  if (isClear) return plain
  const digest = createHash('sha256').update(`${source.length}:${source}${id}`).digest('hex')
  return `cloudevent:${digest}`
}

function bytesOf(base64: unknown): Buffer {
  const isBase64 = typeof base64 === 'string' && /^[A-Za-z0-9+/]*={0,2}$/.test(base64) && base64.length % 4 === 0
  if (!isBase64) throw invalid('data_base64 of the CloudEvent is not Base64')
  return Buffer.from(base64, 'base64')
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function checked(input: unknown): TaskInput {
  refuseTaskLimits(input)
  if (isTaskInput(input)) return input
  const errors = (isTaskInput.errors ?? []).map(({ instancePath, params, message }): FieldError => {
    const field = params.additionalProperty ?? params.missingProperty
    const path = [...instancePath.split('/').slice(1), ...(field ? [String(field)] : [])].join('.')
    return { path, message: message ?? 'does not fit' }
  })
  throw invalid(errors.map(({ path, message }) => `${path || 'the task'}: ${message}`).join('; '), errors)
}

function invalid(detail: string, errors: FieldError[] = []): XQueueError {
  return new XQueueError('invalid_request', detail, errors.length > 0 ? { errors } : {})
}
