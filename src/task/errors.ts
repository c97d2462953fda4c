import { isInstance } from './brand.ts'

/**
 * Every error that a caller can meet, one row each: the HTTP status it is answered with, its title, and what to do.
 * The documentation is generated from this table.
 */
export const ERRORS = {
  invalid_request: [400, 'The request is not valid', 'Mend the fields that `errors` names.'],
  invalid_duration: [400, 'Not a duration', 'Give seconds as a number, or units as in "90s" or "1h30m".'],
  invalid_payload: [400, 'The payload does not fit the task type', 'Mend the fields that `errors` names.'],
  invalid_cursor: [400, 'Not a cursor of this list', 'Use `next_cursor` of the answer before, with the same filters.'],
  unknown_type: [400, 'Unknown task type', 'Start a worker with a handler for it, or declare it.'],
  unknown_predecessor: [400, 'It waits for a task that is not there', 'Name tasks that are kept, in `after`.'],
  type_owns_limits: [400, 'Limits belong to the task type', 'Set them with POST /api/v1/concurrency.'],
  unauthorized: [401, 'Who calls is not known', 'Send Authorization: Bearer KEY; `xqueue keys create` makes keys.'],
  forbidden: [403, 'The key does not allow this', 'Use a key that has the scope which `required_scope` names.'],
  cross_site: [403, 'A page of another site may not do this', 'Name its origin with --cors-origins.'],
  not_found: [404, 'Not found', 'Check the path and the id.'],
  method_not_allowed: [405, 'Method not allowed', 'Use one of the methods in the Allow header.'],
  request_timeout: [408, 'The request was too slow', 'Send it faster, or less at once.'],
  access_control_off: [409, 'There is no access control', 'Subscribe without a token, or start with --auth.'],
  mqtt_off: [409, 'There is no MQTT to subscribe to', 'Start the server with --mqtt, or use /api/v1/events.'],
  idempotency_conflict: [409, 'Idempotency key used for another request', 'Use a new key, or send the same body.'],
  task_finished: [409, 'The task has finished', 'Only a waiting or running task can be canceled.'],
  task_not_finished: [409, 'The task has not finished', 'Cancel it, wait for its end, then purge it.'],
  task_not_retryable: [409, 'The task cannot be retried', 'Only failed, canceled and timed-out tasks can.'],
  schedule_exists: [409, 'There is another schedule of that name', 'Change it with PATCH, or choose another id.'],
  too_many_successors: [409, 'Too many tasks wait for one', 'Let them wait for one in between.'],
  too_many_types: [409, 'Too many task types', 'Use a type that exists, or have it declared.'],
  too_many_schedules: [409, 'There are too many schedules', 'Remove one that is not needed.'],
  lease_lost: [410, 'The lease is no longer held', 'Drop this run: the task was handed out again, or has ended.'],
  too_large: [413, 'Too large', 'Send less at once, or keep the data elsewhere and submit where it is.'],
  unsupported_media_type: [415, 'Unsupported media type', 'Send JSON with Content-Type: application/json.'],
  headers_too_large: [431, 'The headers are too large', 'Send fewer or shorter headers.'],
  too_many_calls: [429, 'Too many calls with this key', 'Try again after the time in Retry-After.'],
  queue_full: [429, 'The queue is full', 'Try again after the time in Retry-After.'],
  engine_unavailable: [503, 'The engine cannot be reached', 'Try again after the time in Retry-After.'],
  issuer_unavailable: [503, 'The issuer of tokens cannot be reached', 'Try again after the time in Retry-After.'],
  shutting_down: [503, 'The process is shutting down', 'Try again: another process will answer.'],
  engine_unusable: [500, 'The engine cannot be used', 'Do what the detail says, then start again.'],
  invalid_config: [500, 'The configuration is not valid', 'Mend the setting that the detail names.'],
  invalid_handlers: [500, 'The handlers cannot be used', 'Mend what the detail names.'],
  internal: [500, 'Internal error', 'See the log of the server for this request id.'],
} as const satisfies Record<string, readonly [status: number, title: string, remedy: string]>

export type ErrorCode = keyof typeof ERRORS

/** One thing that is wrong, and where: `path` as in `tasks[3].priority`. */
export interface FieldError {
  path: string
  message: string
}

/** What an answer may carry beside the message to help mend the call. */
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

/** An error for the caller: a stable code, a message that names the thing, the value and the way out. */
export class XQueueError extends Error {
  static override [Symbol.hasInstance](value: unknown): boolean {
    // biome-ignore lint/complexity/noThisInStatic: it may be a subclass that is asked
    return isInstance(value, this, XQueueError, BRAND)
  }

  readonly code: ErrorCode
  readonly details: ErrorDetails

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}, options?: ErrorOptions) {
    super(message, options)
    this.name = 'XQueueError'
    this.code = code
    this.details = details
  }

  get status(): number {
    return ERRORS[this.code][0]
  }

  get [BRAND](): true {
    return true
  }
}

/** A field of a request that cannot be as it is; the message goes on after its name. */
export function invalidField(path: string, message: string): XQueueError {
  return new XQueueError('invalid_request', `${path} ${message}`, { errors: [{ path, message }] })
}
