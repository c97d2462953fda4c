import { isInstance } from './brand.ts'
import { taskIdOf } from './lease-token.ts'

/**
 * Every error that a caller can receive, one row each: its HTTP status, its title, and how to correct it.
 * The documentation is generated from this table.
 */
export const ERRORS = {
  invalid_request: [400, 'Invalid request', 'Correct the fields in `errors`.'],
  invalid_duration: [400, 'Invalid duration', 'Give seconds as a number, or units as in "90s" or "1h30m".'],
  invalid_payload: [400, 'Invalid payload', 'Correct the fields in `errors`.'],
  invalid_cursor: [400, 'Invalid cursor', 'Use `next_cursor` of the previous page, with the same filters.'],
  unknown_type: [400, 'Unknown task type', 'Start a worker with a handler for the type, or declare the type.'],
  unknown_limit: [400, 'Unknown limit in uses', 'Declare the limit in a handler, or with PUT /api/v1/limits/NAME.'],
  unknown_predecessor: [400, 'Unknown task in after', 'Use ids of existing tasks in `after`.'],
  type_owns_limits: [400, 'Limits belong to the task type', 'Set limits with POST /api/v1/concurrency.'],
  unauthorized: [
    401,
    'Authentication required',
    'Send Authorization: Bearer KEY. Create a key with `xqueue keys create`.',
  ],
  forbidden: [403, 'Not allowed for this key', 'Use a key with the scope in `required_scope`.'],
  cross_site: [403, 'Request from another site refused', 'Allow the origin of the page with --cors-origins.'],
  not_found: [404, 'Not found', 'Check the path and the id.'],
  method_not_allowed: [405, 'Method not allowed', 'Use one of the methods in the Allow header.'],
  request_timeout: [408, 'The request was too slow', 'Send the request faster, or send less data.'],
  access_control_off: [409, 'Access control is off', 'Subscribe without a token, or start the server with --auth.'],
  mqtt_off: [409, 'MQTT is off', 'Start the server with --mqtt, or use /api/v1/events.'],
  idempotency_conflict: [409, 'Idempotency key used for another request', 'Use a new key, or send the original body.'],
  task_finished: [409, 'The task has finished', 'Cancel waiting and running tasks only.'],
  task_not_finished: [409, 'The task has not finished', 'Cancel the task, wait until it has ended, then purge it.'],
  task_not_retryable: [409, 'The task cannot be retried', 'Retry failed, canceled and timed-out tasks only.'],
  schedule_exists: [409, 'Schedule already exists', 'Change it with PATCH, or use another id.'],
  too_many_successors: [409, 'Too many tasks wait for one', 'Let them wait for an intermediate task.'],
  too_many_types: [409, 'Too many task types', 'Use an existing type, or let an operator declare the type.'],
  too_many_schedules: [409, 'Too many schedules', 'Remove a schedule that is not needed.'],
  limit_in_use: [409, 'The limit is in use', 'Wait until no task uses it, or set max to null.'],
  limit_not_placeable: [
    409,
    'The limit is kept in another partition',
    'Use a Redis URL with its own prefix and partitions=1 for types that share limits.',
  ],
  too_many_limits: [409, 'Too many limits', 'Remove a limit that is not needed, or use one for all keys: NAME/*.'],
  lease_lost: [410, 'The lease is no longer held', 'Stop this run: the task has been handed out again or has ended.'],
  too_large: [413, 'Too large', 'Send less data, or store the data elsewhere and submit a reference.'],
  unsupported_media_type: [415, 'Unsupported media type', 'Send JSON with Content-Type: application/json.'],
  headers_too_large: [431, 'The headers are too large', 'Send fewer or shorter headers.'],
  too_many_calls: [429, 'Too many calls with this key', 'Repeat the call after the time in Retry-After.'],
  queue_full: [429, 'The queue is full', 'Repeat the call after the time in Retry-After.'],
  overloaded: [503, 'The server is overloaded', 'Repeat the call after the time in Retry-After.'],
  engine_unavailable: [503, 'Engine unavailable', 'Repeat the call after the time in Retry-After.'],
  issuer_unavailable: [503, 'Issuer of tokens unavailable', 'Repeat the call after the time in Retry-After.'],
  shutting_down: [503, 'The process is shutting down', 'Repeat the call: another process will answer.'],
  engine_unusable: [500, 'The engine cannot be used', 'Correct the problem in the detail, then start again.'],
  invalid_config: [500, 'Invalid configuration', 'Correct the setting in the detail.'],
  invalid_handlers: [500, 'Invalid handlers', 'Correct the handler in the detail.'],
  internal: [500, 'Internal error', 'Search the log of the server for this request id.'],
} as const satisfies Record<string, readonly [status: number, title: string, remedy: string]>

export type ErrorCode = keyof typeof ERRORS

/** One error with its position: `path` such as `tasks[3].priority`. */
export interface FieldError {
  path: string
  message: string
}

/** Additional fields of an answer that help to correct the call. */
export interface ErrorDetails {
  errors?: FieldError[]
  registered_types?: string[]
  retry_after?: number
  task_id?: string
  allow?: string[]
  required_scope?: string
  scopes?: readonly string[]
  /** Sent as WWW-Authenticate. */
  challenge?: string
}

const BRAND = Symbol.for('xqueue.XQueueError')

/** An error for the caller: a stable code, and a message with the name, the value and the way to correct it. */
export class XQueueError extends Error {
  static override [Symbol.hasInstance](value: unknown): boolean {
    // biome-ignore lint/complexity/noThisInStatic: `this` may be a subclass
    return isInstance(value, this, XQueueError, BRAND)
  }

  readonly code: ErrorCode
  /** The additional fields of the answer, as the API names them. */
  readonly details: ErrorDetails

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}, options?: ErrorOptions) {
    super(message, options)
    this.name = 'XQueueError'
    this.code = code
    this.details = details
  }

  /** The HTTP status of the code. */
  get status(): number {
    return ERRORS[this.code][0]
  }

  /** The values that are not valid, with their paths. */
  get errors(): readonly FieldError[] {
    return this.details.errors ?? []
  }

  /** Seconds after which a repeated call may succeed; null: not known. */
  get retryAfter(): number | null {
    return this.details.retry_after ?? null
  }

  /** With `unknown_type`: the known types. */
  get registeredTypes(): readonly string[] {
    return this.details.registered_types ?? []
  }

  /** With `forbidden`: the scope that the call needs. */
  get requiredScope(): string | null {
    return this.details.required_scope ?? null
  }

  get [BRAND](): true {
    return true
  }
}

/** An error about a field of a request; the message continues after the field's name. */
export function invalidField(path: string, message: string): XQueueError {
  return new XQueueError('invalid_request', `${path} ${message}`, { errors: [{ path, message }] })
}

const PATH_CHARS_MAX = 500

/** The beginning of the path of a value, which contains names that may be long or malformed. */
export function shortPath(path: string): string {
  return path.slice(0, PATH_CHARS_MAX).toWellFormed()
}

/** @param why ends the sentence */
export function leaseLost(lease: string, why = 'it expired or was settled'): XQueueError {
  const id = taskIdOf(lease)
  const detail =
    id === '' ? 'that lease is not one of this server' : `the lease of task "${id}" is no longer held: ${why}`
  return new XQueueError('lease_lost', detail)
}
