import { type FieldError, XQueueError } from '../task/errors.ts'
import { SCHEDULE_LIMITS } from '../task/schedule.ts'
import { TASK_LIMITS, type TaskSpec } from '../task/task.ts'

/** Why an engine refuses something, in the same words whichever engine it is. */

/** Types that a refusal names. */
const NAMES_MAX = 20
/** How soon a full queue is worth asking again, seconds. */
const RETRY_AFTER_FULL = 1

export function unknownType(type: string, registered: string[]): XQueueError {
  const some = registered.slice(0, NAMES_MAX)
  const more = registered.length > some.length ? `, and ${registered.length - some.length} more` : ''
  const have = some.length > 0 ? `registered are ${some.join(', ')}${more}` : 'none is registered'
  const remedy = 'start a worker that has a handler for it'
  const detail = `no handler is registered for the task type "${type}" (${have}): ${remedy}`
  return new XQueueError('unknown_type', detail, { registered_types: some })
}

/** Whoever logs in with a key that is revoked meanwhile gets no session. */
export function sessionWithoutKey(): XQueueError {
  return new XQueueError('unauthorized', 'the key is no longer valid: it was revoked or has expired')
}

/** The same for a batch, with the index of each task that is of an unknown type. */
export function unknownTypes(
  specs: readonly TaskSpec[],
  unknown: ReadonlySet<string>,
  registered: string[],
): XQueueError {
  const [first] = unknown
  const { message, details } = unknownType(first!, registered)
  const errors = specs.flatMap(({ type }, index): FieldError[] =>
    unknown.has(type) ? [{ path: `tasks[${index}].type`, message: `unknown task type "${type}"` }] : [],
  )
  return new XQueueError('unknown_type', message, { ...details, errors })
}

/** The store has lost everything, and the workers are about to tell it of their types again. */
export function lostTypes(specs: readonly TaskSpec[]): XQueueError {
  const types = [...new Set(specs.map(({ type }) => type))].slice(0, 3).join(', ')
  const detail = `the store has lost its data, and its workers have not declared all types again (asked for: ${types})`
  return new XQueueError('engine_unavailable', `${detail}: try again in a moment`, { retry_after: 1 })
}

/** @param taskId the task that the key stands for, if it was there before this batch */
export function keyConflict(key: string, index: number, taskId: string | null): XQueueError {
  const detail = `the idempotency key "${key}" was used for another request: use a new key, or send the same body`
  const errors = [{ path: `tasks[${index}].idempotency_key`, message: 'used for another request' }]
  return new XQueueError('idempotency_conflict', detail, { errors, ...(taskId === null ? {} : { task_id: taskId }) })
}

/** @param missing which tasks wait for what is not there: the task, the place in its `after`, and what stands there */
export function unknownPredecessors(missing: readonly { index: number; place: number; id: string }[]): XQueueError {
  const errors = missing.map(
    ({ index, place, id }): FieldError => ({
      path: `tasks[${index}].after[${place}]`,
      message: `there is no task ${JSON.stringify(id)}`,
    }),
  )
  const detail = `a task can only wait for tasks that are there, and ${errors[0]!.message}`
  return new XQueueError('unknown_predecessor', `${detail}: it never was, or retention removed it`, { errors })
}

/** What the checks before it have let through and a store cannot keep. */
export function unstorable(index: number): XQueueError {
  const errors = [{ path: `tasks[${index}]`, message: 'cannot be stored' }]
  return new XQueueError('invalid_request', `tasks[${index}] holds a value that cannot be stored`, { errors })
}

export function tooManySuccessors(id: string): XQueueError {
  const detail = `${TASK_LIMITS.successorsMax} tasks may wait for one, and for task ${id} it would be more`
  return new XQueueError('too_many_successors', `${detail}: let the others wait for a task in between`)
}

export function queueFull(waiting: number, pendingMax: number, more: number): XQueueError {
  const detail = `the queue holds ${waiting} waiting tasks and may hold ${pendingMax}: ${more} more do not fit`
  return new XQueueError('queue_full', detail, { retry_after: RETRY_AFTER_FULL })
}

export function scheduleExists(id: string): XQueueError {
  const detail = `there is another schedule "${id}": change it with PATCH /api/v1/schedules/${id}, or choose another id`
  return new XQueueError('schedule_exists', detail)
}

export function tooManySchedules(): XQueueError {
  const detail = `there are ${SCHEDULE_LIMITS.countMax} schedules, which is as many as there may be: remove one`
  return new XQueueError('too_many_schedules', detail)
}

export function closedError(): XQueueError {
  return new XQueueError('shutting_down', 'the engine was closed: this process is shutting down')
}
