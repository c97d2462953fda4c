import { type FieldError, XQueueError } from '../task/errors.ts'
import { SCHEDULE_LIMITS } from '../task/schedule.ts'
import { TASK_LIMITS, type TaskSpec } from '../task/task.ts'
import type { Uses } from '../task/uses.ts'
import type { LimitRecord } from './limit-record.ts'
import { LIMITS_MAX } from './type-info.ts'

/** The reasons why a store refuses a request, with the same texts for every store. */

/** Maximum number of types that a refusal names. */
const NAMES_MAX = 20
/** Seconds after which a submission to a full queue is worth repeating. */
const RETRY_AFTER_FULL = 1

interface Unknown {
  why: string
  remedy: string
}

export function unknownType(
  type: string,
  registered: string[],
  { why, remedy }: Unknown = withoutHandler(type),
): XQueueError {
  const some = registered.slice(0, NAMES_MAX)
  const more = registered.length > some.length ? `, and ${registered.length - some.length} more` : ''
  const have = some.length > 0 ? `registered: ${some.join(', ')}${more}` : 'none is registered'
  return new XQueueError('unknown_type', `${why} (${have}): ${remedy}`, { registered_types: some })
}

function withoutHandler(type: string): Unknown {
  const remedy = 'start a worker that has a handler for it'
  return { why: `no handler is registered for the task type "${type}"`, remedy }
}

/** A login with a key that is revoked meanwhile gets no session. */
export function sessionWithoutKey(): XQueueError {
  return new XQueueError('unauthorized', 'the key is no longer valid: it was revoked or has expired')
}

/** The error for a batch, with the index of each task of an unknown type. */
export function unknownTypes(
  specs: readonly TaskSpec[],
  unknown: ReadonlySet<string>,
  registered: string[],
  because: (type: string) => Unknown = withoutHandler,
): XQueueError {
  const [first] = unknown
  const { message, details } = unknownType(first!, registered, because(first!))
  const errors = specs.flatMap(({ type }, index): FieldError[] =>
    unknown.has(type) ? [{ path: `tasks[${index}].type`, message: `unknown task type "${type}"` }] : [],
  )
  return new XQueueError('unknown_type', message, { ...details, errors })
}

/** The store has lost everything, and the workers will declare their types again. */
export function lostTypes(specs: readonly TaskSpec[]): XQueueError {
  const types = [...new Set(specs.map(({ type }) => type))].slice(0, 3).join(', ')
  const detail = `the store has lost its data, and its workers have not declared all types again (requested: ${types})`
  return new XQueueError('engine_unavailable', `${detail}: try again in a moment`, { retry_after: 1 })
}

/** @param taskId the task of the key, if it existed before this batch */
export function keyConflict(key: string, index: number, taskId: string | null): XQueueError {
  const detail = `the idempotency key "${key}" was used for another request: use a new key, or send the same body`
  const errors = [{ path: `tasks[${index}].idempotency_key`, message: 'used for another request' }]
  return new XQueueError('idempotency_conflict', detail, { errors, ...(taskId === null ? {} : { task_id: taskId }) })
}

/**
 * @param missing references to tasks that do not exist: the index of the task, the position in its `after`, and the id
 *   there
 */
export function unknownPredecessors(missing: readonly { index: number; place: number; id: string }[]): XQueueError {
  const errors = missing.map(
    ({ index, place, id }): FieldError => ({
      path: `tasks[${index}].after[${place}]`,
      message: `there is no task ${JSON.stringify(id)}`,
    }),
  )
  const detail = `a task can only wait for existing tasks, and ${errors[0]!.message}`
  return new XQueueError('unknown_predecessor', `${detail}: it may have expired`, { errors })
}

/** A value that passed all earlier checks but cannot be stored. */
export function unstorable(index: number): XQueueError {
  const errors = [{ path: `tasks[${index}]`, message: 'cannot be stored' }]
  return new XQueueError('invalid_request', `tasks[${index}] contains a value that cannot be stored`, { errors })
}

export function tooManySuccessors(id: string): XQueueError {
  const detail = `${TASK_LIMITS.successorsMax} tasks may wait for one task, and task ${id} would have more`
  return new XQueueError('too_many_successors', `${detail}: let the others wait for an intermediate task`)
}

export function queueFull(waiting: number, pendingMax: number, more: number): XQueueError {
  const detail = `the queue holds ${waiting} waiting tasks and may hold ${pendingMax}: ${more} more do not fit`
  return new XQueueError('queue_full', detail, { retry_after: RETRY_AFTER_FULL })
}

/**
 * @param settingsOf returns the settings in force for a limit, or null
 * @param pathOf the path of a task, by its index
 * @throws XQueueError `unknown_limit`, or `invalid_request` for units that a limit never allows
 */
export function refuseUses(
  specs: readonly (readonly [index: number, spec: Pick<TaskSpec, 'uses'>])[],
  settingsOf: (name: string) => LimitRecord | null,
  pathOf = (index: number) => `tasks[${index}].`,
): void {
  const unknown: FieldError[] = []
  const tooMany: FieldError[] = []
  const accepted = new Set<Uses>()
  for (const [index, { uses }] of specs) {
    if (accepted.has(uses)) continue
    const before = unknown.length + tooMany.length
    for (const name in uses) {
      const path = `${pathOf(index)}uses.${name}`
      const settings = settingsOf(name)
      if (!settings) unknown.push({ path, message: `there is no limit ${JSON.stringify(name)}` })
      const most = Math.min(settings?.max ?? Infinity, settings?.rate?.max ?? Infinity)
      if (uses[name]! > most) tooMany.push({ path, message: `is ${uses[name]}, and the limit allows ${most} at most` })
    }
    if (unknown.length + tooMany.length === before) accepted.add(uses)
  }
  if (unknown.length > 0) {
    const names = [...new Set(unknown.map(({ message }) => message))].slice(0, NAMES_MAX).join(', ')
    const remedy = 'declare it in a handler (`limits`), or with PUT /api/v1/limits/NAME'
    throw new XQueueError('unknown_limit', `${names}: ${remedy}`, { errors: unknown })
  }
  const [first] = tooMany
  if (!first) return
  const detail = `${first.path} ${first.message}: the task could never start, so use fewer units, or raise the limit`
  throw new XQueueError('invalid_request', detail, { errors: tooMany })
}

export function unknownLimit(name: string): XQueueError {
  const remedy = 'declare it in a handler (`limits`), or set max or rate with PUT /api/v1/limits/NAME'
  return new XQueueError('unknown_limit', `there is no limit ${JSON.stringify(name)}: ${remedy}`)
}

export function limitInUse(name: string): XQueueError {
  const remedy = 'wait until these have ended, or set max to null'
  return new XQueueError('limit_in_use', `tasks that have not ended use the limit ${JSON.stringify(name)}: ${remedy}`)
}

export function tooManyLimits(): XQueueError {
  const remedy = 'remove one that is not needed, or use one for all keys, such as tenant/*'
  return new XQueueError('too_many_limits', `there are ${LIMITS_MAX} limits, which is the maximum: ${remedy}`)
}

export function limitNotPlaceable(name: string): XQueueError {
  const detail = `tasks of another partition use the limit ${JSON.stringify(name)}`
  const remedy = 'use a Redis URL with its own prefix and partitions=1 for types that share limits'
  return new XQueueError('limit_not_placeable', `${detail}: ${remedy}`)
}

export function scheduleExists(id: string): XQueueError {
  const detail = `another schedule "${id}" exists: change it with PATCH /api/v1/schedules/${id}, or choose another id`
  return new XQueueError('schedule_exists', detail)
}

export function tooManySchedules(): XQueueError {
  const detail = `there are ${SCHEDULE_LIMITS.countMax} schedules, which is the maximum: remove one`
  return new XQueueError('too_many_schedules', detail)
}

export function closedError(): XQueueError {
  return new XQueueError('shutting_down', 'the engine is closed: this process is shutting down')
}
