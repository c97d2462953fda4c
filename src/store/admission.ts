import { invalidField, XQueueError } from '../task/errors.ts'
import { faultIn, ILL_FORMED, isJsonText, joined, write } from '../task/json.ts'
import { type AttemptLog, isStorableLine, LOG_LIMITS } from '../task/log-line.ts'
import { failureOf, type Outcome, refusedOutcome } from '../task/outcome.ts'
import { reportedProgress } from '../task/progress.ts'
import { delayOf, holdOf } from '../task/retry.ts'
import type { ScheduleChange } from '../task/schedule.ts'
import { TASK_LIMITS, type TaskSpec } from '../task/task.ts'
import { refuseManyEdges } from '../task/task-input.ts'
import { describeError } from '../task/thrown.ts'
import {
  isOfEachKey,
  LIMIT_NAME_PATTERN,
  NO_USES,
  USES_LIMITS,
  type Uses,
  usageError,
  usesErrors,
} from '../task/uses.ts'
import { type LimitChange, RATE_LIMITS, type Turn } from './store.ts'

/**
 * Checks of everything that enters a store, for every store and every source: HTTP, a topic, or a program that calls
 * the store directly. Stores group many calls in one step, so values that cannot be stored must be found before that
 * step: then a submission or a schedule is refused alone, and an outcome that cannot be stored becomes a failure of its
 * own task only.
 */

const COUNTS = ['maxRetry', 'queueTimeoutMs', 'processTimeoutMs', 'delayMs', 'runAt'] as const
const TEXTS = [
  ['type', 'type'],
  ['idempotencyKey', 'idempotency_key'],
  ['group', 'group'],
  ['batch', 'batch'],
] as const

/** @throws XQueueError `too_large`, or `invalid_request`, `invalid_payload` naming the first invalid field */
export function refuseUnstorable(specs: readonly TaskSpec[]): void {
  refuseManyEdges(specs)
  specs.forEach(refuseTask)
}

/** @throws XQueueError `invalid_request`, `invalid_payload` */
export function refuseUnstorableSchedule(change: ScheduleChange): void {
  if ('add' in change || 'keep' in change) {
    const { id, task } = 'add' in change ? change.add : change.keep
    refuseText(id, 'id')
    refuseTask(task, null)
  } else if ('alter' in change && change.to.task) refuseTask(change.to.task, null)
}

/** @throws XQueueError `invalid_request` */
export function refuseLimitChange(name: string, { max, rate, handler }: LimitChange): void {
  const { nameCharsMax, unitsMax } = USES_LIMITS
  const isGroup = /^group:[^/]+\/\P{Cc}{1,128}$/u.test(name) && !isOfEachKey(name)
  if (!(name.isWellFormed() && (LIMIT_NAME_PATTERN.test(name) || isGroup))) {
    const form = `1 to ${nameCharsMax} characters without control characters, not beginning with type: or group:`
    throw invalidField('name', `is not the name of a limit: use ${form}, or group:TYPE/GROUP`)
  }
  if (isGroup && (rate || handler)) throw invalidField('rate', 'is not possible for one group: set it for its type')
  for (const most of [max, handler?.max]) {
    if (most === undefined || most === null || (Number.isInteger(most) && most >= 1 && most <= unitsMax)) continue
    throw invalidField('max', `is ${most}: it must be an integer from 1 to ${unitsMax}, or null for no limit`)
  }
  for (const given of [rate, handler?.rate]) {
    if (!given) continue
    for (const field of ['max', 'perMs'] as const) {
      if (Number.isInteger(given[field]) && given[field] >= 1 && given[field] <= RATE_LIMITS[field]) continue
      throw invalidField(`rate.${field}`, `is ${given[field]}: it must be an integer from 1 to ${RATE_LIMITS[field]}`)
    }
  }
}

/**
 * Returns a turn whose outcomes and progress can be stored, whatever the worker reports.
 * @param logLinesMax as in `StoreOptions`
 * @throws XQueueError `invalid_request` if the worker's own fields cannot be stored
 */
export function storableTurn(turn: Turn, logLinesMax: number = LOG_LIMITS.linesMax): Turn {
  const { worker, outcomes, renewals, logs, want, leaseMs } = turn
  refuseText(worker.id, 'worker_id')
  for (const type of turn.types ?? worker.types) refuseText(type, 'types')
  if (!(Number.isSafeInteger(want) && want >= 0)) throw invalidField('want', `is ${want}: it must be an integer ≥ 0`)
  if (leaseMs !== undefined && !(Number.isSafeInteger(leaseMs) && leaseMs > 0)) {
    throw invalidField('leaseMs', `is ${leaseMs}: it must be whole milliseconds`)
  }
  if (!outcomes?.length && !renewals?.length && !logs?.length) return turn
  return {
    ...turn,
    ...(outcomes && { outcomes: outcomes.map(({ lease, outcome }) => ({ lease, outcome: storable(outcome) })) }),
    ...(renewals && { renewals: renewals.map(storableRenewal) }),
    ...(logs && { logs: logLinesMax === 0 ? [] : logs.flatMap((log) => storableLog(log, logLinesMax)) }),
  }
}

function storable(outcome: Outcome): Outcome {
  switch (outcome.kind) {
    case 'success': {
      if (outcome.result === null || isJsonText(outcome.result)) return withUsage(outcome, outcome.usage)
      const result = write(outcome.result)
      if ('written' in result) return withUsage({ kind: 'success', result: result.written }, outcome.usage)
      return refusedOutcome(`${joined('result', result.fault.path)} ${result.fault.message}`)
    }
    case 'failure': {
      const { error, retry, delayMs, usage } = outcome
      const text = typeof error === 'string' ? error : describeError(error)
      const delay = delayMs === null ? { delayMs, unusable: null } : delayOf(delayMs)
      return withUsage(failureOf(text, { retry: retry !== false, ...delay }), usage)
    }
    case 'held': {
      const { error, holdMs, limit = null } = outcome
      const text = typeof error === 'string' ? error : describeError(error)
      return failureOf(text, { retry: true, delayMs: null, ...holdOf(holdMs), limit })
    }
    case 'timeout':
    case 'released':
      return outcome
    default:
      return refusedOutcome(`unknown kind of outcome ${describeError((outcome as Outcome).kind)}`)
  }
}

/** An invalid usage has no effect: what the rates have counted stays. */
function withUsage(outcome: Outcome, usage: Uses | undefined): Outcome {
  if (usage === undefined || usageError(usage)) return outcome
  return outcome.kind === 'success' || outcome.kind === 'failure' ? { ...outcome, usage } : outcome
}

type Renewal = NonNullable<Turn['renewals']>[number]

function storableRenewal(renewal: Renewal): Renewal {
  const { lease, progress } = renewal
  if (progress === undefined || isJsonText(progress)) return renewal
  const reported = reportedProgress(progress)
  return { lease, ...('progress' in reported ? { progress: reported.progress } : {}) }
}

/** Lines that cannot be stored count as left out, and so do the first ones of too many. */
function storableLog({ lease, lines, skipped = 0 }: AttemptLog, linesMax: number): AttemptLog[] {
  const kept = lines.filter(isStorableLine).slice(-Math.min(linesMax, LOG_LIMITS.linesMax))
  if (kept.length === 0) return []
  const before = Number.isSafeInteger(skipped) && skipped > 0 ? skipped : 0
  return [{ lease, lines: kept, skipped: before + lines.length - kept.length }]
}

/** @param index its position in a batch */
function refuseTask(task: Partial<TaskSpec>, index: number | null): void {
  const { payload, priority, tags, uses = NO_USES, after } = task
  for (const [field, name] of TEXTS) refuseText(task[field], name, index)
  for (const key in tags) {
    refuseText(key, 'tags', index)
    refuseText(tags[key], `tags.${key}`, index)
  }
  const [wrongUse] = uses === NO_USES ? [] : usesErrors(uses, placeOf('uses', index))
  if (wrongUse) throw invalidField(wrongUse.path, wrongUse.message)
  if (after) for (const id of after) if (typeof id === 'string') refuseText(id, 'after', index)
  if (priority !== undefined && !(Number.isInteger(priority) && priority >= 0 && priority <= TASK_LIMITS.priorityMax)) {
    const must = `it must be an integer from 0 to ${TASK_LIMITS.priorityMax}`
    throw invalidField(placeOf('priority', index), `is ${priority}: ${must}`)
  }
  for (const field of COUNTS) refuseCount(task[field], field, index)
  const fault = payload === undefined ? null : faultIn(payload)
  if (!fault) return
  const path = placeOf(joined('payload', fault.path), index)
  const errors = [{ path, message: fault.message }]
  throw new XQueueError('invalid_payload', `${path} ${fault.message}`, { errors })
}

/** Where a field of a task is, for a refusal only: of most tasks nothing is refused. */
function placeOf(field: string, index: number | null): string {
  return index === null ? field : `tasks[${index}].${field}`
}

function refuseCount(value: number | null | undefined, field: string, index: number | null): void {
  if (value === null || value === undefined || (Number.isSafeInteger(value) && value >= 0)) return
  throw invalidField(placeOf(field, index), `is ${value}: it must be whole milliseconds, or an integer of 0 or more`)
}

function refuseText(text: string | null | undefined, field: string, index: number | null = null): void {
  if (text === null || text === undefined || text.isWellFormed()) return
  throw invalidField(placeOf(field, index).toWellFormed(), ILL_FORMED)
}
