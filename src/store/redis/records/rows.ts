import type { Predecessor } from '../../../task/flow.ts'
import type { Json } from '../../../task/json.ts'
import type { Running } from '../../../task/outcome.ts'
import type { Status, TimeoutReason } from '../../../task/status.ts'
import type { Progress, Task, TaskSpec } from '../../../task/task.ts'
import { idOfName, idOfRef } from './ids.ts'

/** The texts that scripts store and return, see shared.lua. */

/** The answer of `find` about a task: its location, its lane's name, its text, and its entry or progress. */
export type Found = [where: string, lane: string, text: string, more: string]

/** The request as the head of an entry: the other fields are added when the entry is in the stream again. */
export function headOf({
  queueTimeoutMs,
  processTimeoutMs,
  maxRetry,
}: Pick<TaskSpec, 'queueTimeoutMs' | 'processTimeoutMs' | 'maxRetry'>): string {
  return `${queueTimeoutMs},${processTimeoutMs},${maxRetry}`
}

/** Fields that few tasks have. */
type Extras = Pick<Task, 'tags' | 'idempotencyKey' | 'group' | 'after' | 'onFailure' | 'batch'>

/**
 * The extras of a task as JSON, '' when it has none: tags, idempotency key and group; its batch, if it has one or waits
 * for others; then its failure policy for predecessors, and their names, which submit.lua adds.
 */
export function extrasOf(task: Omit<Extras, 'after'> & { after: readonly unknown[] }): string {
  const { tags, idempotencyKey, group, after, onFailure, batch } = task
  const tagged = Object.keys(tags).length > 0
  const depends = after.length > 0
  if (!tagged && idempotencyKey === null && group === null && batch === null && !depends) return ''
  const first = `${tagged ? JSON.stringify(tags) : '{}'},${JSON.stringify(idempotencyKey)},${JSON.stringify(group)}`
  if (batch === null && !depends) return first
  return `${first},${JSON.stringify(batch)}${depends ? `,"${onFailure}"` : ''}`
}

const NONE: readonly never[] = []

/** Reads extras from their stored form. */
export function readExtras(text: string): Extras {
  const [tags, idempotencyKey, group, batch = null, onFailure = 'cancel', names = NONE] =
    text === '' ? [{}, null, null] : JSON.parse(`[${text}]`)
  return { tags, idempotencyKey, group, batch, onFailure, after: names.length === 0 ? NONE : names.map(idOfName) }
}

/** The predecessors of a task, as `predecessors_of` of outcomes.lua returns them, in the order of its `after`. */
export function predecessorsOf(after: readonly string[], outcomes: string): readonly Predecessor[] {
  if (outcomes === '') return NONE
  return (JSON.parse(outcomes) as StoredOutcome[]).map((outcome, index) => predecessorOf(after[index]!, outcome))
}

/** Only status and type where the result was omitted. */
export type StoredOutcome = [Status | null, string] | [Status | null, string, Json, string | null]

export function predecessorOf(id: string, [status, type, result = null, error]: StoredOutcome): Predecessor {
  if (error === undefined) return { id, type, status, result: null, error: null, omitted: true }
  return { id, type, status, result, error }
}

export function taskOf(partition: number, ref: string, [where, lane, text, more]: Found): Task {
  const [head = '', extras = '', payload = '', before = '', error, progress, result] = text.split('\n')
  if ('WDA'.includes(where)) return taskOfParts(partition, ref, lane, head, payload, extras, before)
  const task = taskOfParts(partition, ref, lane, '0,0,0', payload, extras, before)
  if (where === 'L') {
    const { startedAt, workerId, attempts, runAt } = leaseOf(text)
    const tail = head.split('|').slice(8)
    const ran = { attempts, deliveries: Number(tail[1]), runAt, startedAt, updatedAt: startedAt, workerId }
    return { ...task, ...askedOf(tail), ...ran, status: 'processing', progress: json(more) }
  }
  const [status, reason, completed, attempts, ...tail] = head.split('|')
  const completedAt = Number(completed)
  return {
    ...task,
    ...askedOf(tail),
    status: status as Status,
    timeoutReason: (reason || null) as TimeoutReason | null,
    attempts: Number(attempts),
    deliveries: Number(tail[1]),
    runAt: Number(tail[5]),
    startedAt: numberOrNull(tail[6]!),
    updatedAt: completedAt,
    completedAt,
    workerId: json(tail.slice(7).join('|')) as string | null,
    progress: json(progress),
    result: json(result),
    error: json(error) as string | null,
  }
}

/** Reads the tail that leases and finished tasks have. */
function askedOf(tail: readonly string[]): Pick<Task, 'queueTimeoutMs' | 'processTimeoutMs' | 'maxRetry'> {
  return { queueTimeoutMs: Number(tail[2]), processTimeoutMs: Number(tail[3]), maxRetry: Number(tail[4]) }
}

/** Reads a waiting task from the parts of an entry. */
export function taskOfParts(
  partition: number,
  ref: string,
  lane: string,
  head: string,
  payload: string,
  extras: string,
  error: string,
): Task {
  const createdAt = Number(ref.slice(ref.indexOf('.') + 1, ref.lastIndexOf('-')))
  const parts = head.split(',')
  const again = parts.length > 3
  return {
    id: idOfRef(partition, ref),
    type: typeOfLane(lane),
    payload: JSON.parse(payload),
    priority: lane.charCodeAt(lane.length - 1) - 48,
    status: 'pending',
    attempts: again ? Number(parts[4]) : 0,
    deliveries: again ? Number(parts[6]) : 0,
    maxRetry: Number(parts[2]),
    queueTimeoutMs: Number(parts[0]),
    processTimeoutMs: Number(parts[1]),
    timeoutReason: null,
    createdAt,
    runAt: again ? Number(parts[7]) : createdAt,
    startedAt: again ? numberOrNull(parts[8]!) : null,
    updatedAt: again ? Number(parts[9]) : createdAt,
    completedAt: null,
    workerId: again ? (json(parts.slice(10).join(',')) as string | null) : null,
    progress: null,
    result: null,
    error: error === '' ? null : (JSON.parse(error) as string | null),
    ...readExtras(extras),
  }
}

/** The state of a lease that settling needs. */
export interface LeaseState extends Running {
  partition: number
  ref: string
  /** `<type>:<priority>` */
  lane: string
  fence: string
  startedAt: number
  expiresAt: number
  workerId: string
  /** The beginning of its record if it is the first delivery and the record has not changed since. */
  plain?: string
}

/** Reads a record of `leases`. */
export function leaseOf(record: string): Omit<LeaseState, 'partition' | 'ref' | 'lane'> {
  const [head = ''] = record.split('\n', 1)
  const [fence, cancelAt, , deadlineAt, , expiresAt, , attempts, ...tail] = head.split('|')
  return {
    fence: fence!,
    cancelRequested: cancelAt !== '0',
    startedAt: Number(tail[6]),
    expiresAt: Number(expiresAt),
    deadlineAt: numberOrNull(deadlineAt!),
    attempts: Number(attempts),
    lostLeases: Number(tail[0]),
    maxRetry: Number(tail[4]),
    runAt: Number(tail[5]),
    workerId: JSON.parse(tail.slice(7).join('|')) as string,
  }
}

/** Milliseconds; '0' is none. */
function numberOrNull(text: string): number | null {
  return text === '0' ? null : Number(text)
}

function json(text: string | undefined): Json & Progress {
  return (text === undefined || text === 'null' ? null : JSON.parse(text)) as Json & Progress
}

export function typeOfLane(lane: string): string {
  return lane.slice(0, -2)
}
