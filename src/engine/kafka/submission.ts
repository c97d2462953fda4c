import { Ajv2020 } from 'ajv/dist/2020.js'
import { type FieldError, XQueueError } from '../../task/errors.ts'
import { refuseTaskLimits, type TaskInput, TaskInputSchema } from '../../task/task-input.ts'
import { type TraceContext, withTrace } from '../../task/trace-context.ts'
import type { ReadRecord } from './fetched.ts'

/** What a program has put into the submit topic: a task as over HTTP, as it is or in a CloudEvent. */

/** Attributes of a CloudEvent that say nothing more than the type, the payload, and a key to know it by. */
const CONTEXT = ['specversion', 'id', 'source', 'type', 'subject', 'time', 'datacontenttype', 'dataschema', 'data']
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

const isTaskInput = new Ajv2020({ strict: false, allErrors: true, validateFormats: false }).compile<TaskInput>(
  TaskInputSchema,
)

/** @throws XQueueError `invalid_request` | `type_owns_limits` saying what is wrong with it */
export function submissionOf({ value, headers: pairs }: Pick<ReadRecord, 'value' | 'headers'>): TaskInput {
  const headers = new Map(pairs.map(([name, text]) => [String(name).toLowerCase(), String(text)]))
  const task = taskOf(value, headers)
  return { ...task, tags: withTrace(task.tags ?? {}, Object.fromEntries(headers) as TraceContext) }
}

function taskOf(value: Buffer | null, headers: ReadonlyMap<string, string>): TaskInput {
  const binary = headers.has('ce_specversion')
  const body = bodyOf(value, binary && !isJson(headers.get('content-type')))
  if (binary) return checked(taskOfEvent({ ...attributesOf(headers), data: body }))
  const structured = headers.get('content-type')?.startsWith(STRUCTURED) || isCloudEvent(body)
  return checked(structured ? taskOfEvent(body as Record<string, unknown>) : body)
}

function bodyOf(value: Buffer | null, mayBeText: boolean): unknown {
  if (value === null || value.length === 0) {
    if (mayBeText) return undefined
    throw invalid('the record is empty: it must hold a task as JSON')
  }
  const text = value.toString()
  try {
    return JSON.parse(text)
  } catch (error) {
    if (mayBeText) return text
    throw invalid(`the record is no JSON (${(error as Error).message})`)
  }
}

function isJson(contentType: string | undefined): boolean {
  return contentType === undefined || /[/+]json\b/.test(contentType)
}

function isCloudEvent(body: unknown): boolean {
  return typeof body === 'object' && body !== null && 'specversion' in body && 'source' in body
}

function attributesOf(headers: ReadonlyMap<string, string>): Record<string, string> {
  const own = [...headers].filter(([name]) => name.startsWith('ce_'))
  return Object.fromEntries(own.map(([name, value]) => [name.slice('ce_'.length), value]))
}

/** The event's type is the task's, its data the payload; source and id together are what it is known by. */
function taskOfEvent(event: Record<string, unknown>): unknown {
  if (typeof event !== 'object' || event === null) throw invalid('the record is no CloudEvent: it must be an object')
  const missing = ['id', 'source', 'type'].find((name) => typeof event[name] !== 'string' || event[name] === '')
  if (missing) throw invalid(`the CloudEvent has no ${missing}`)
  const task: Record<string, unknown> = { type: event.type, idempotency_key: `${event.source}#${event.id}` }
  if (event.data !== undefined) task.payload = event.data
  for (const [name, value] of Object.entries(event)) {
    if (CONTEXT.includes(name)) continue
    // Others than these are the sender's own.
    const field = EXTENSIONS[name]
    if (field) task[field] = NUMBERS.includes(field) && typeof value === 'string' ? Number(value) : value
  }
  return task
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
