import type { Json } from '../../task/json.ts'
import type { Running } from '../../task/outcome.ts'
import type { Status, TimeoutReason } from '../../task/status.ts'
import type { Progress, Task, TaskSpec } from '../../task/task.ts'
import { idOfRef } from './ids.ts'

/** The texts that scripts keep and answer, see shared.lua. */

/** What `find` says of a task: where it stands, its lane's name, its text, and its lease's record or its entry. */
export type Found = [where: string, lane: string, text: string, more: string]

/** What was asked for, as the head of an entry: the rest of it is given when it stands in the stream again. */
export function headOf({ queueTimeoutMs, processTimeoutMs, maxRetry }: TaskSpec): string {
  return `${queueTimeoutMs},${processTimeoutMs},${maxRetry}`
}

/** Tags, idempotency key and group of a task; '' when it has none. */
export function extrasOf({ tags, idempotencyKey }: TaskSpec): string {
  for (const _ in tags) return `${JSON.stringify(tags)},${JSON.stringify(idempotencyKey)},null`
  return idempotencyKey === null ? '' : `{},${JSON.stringify(idempotencyKey)},null`
}

/** A task that was accepted just now. */
export function acceptedTask(spec: TaskSpec, id: string, ms: number): Task {
  const { type, payload, priority, maxRetry, queueTimeoutMs, processTimeoutMs, tags, idempotencyKey } = spec
  return {
    id,
    type,
    payload,
    priority,
    status: 'pending',
    attempts: 0,
    deliveries: 0,
    maxRetry,
    queueTimeoutMs,
    processTimeoutMs,
    timeoutReason: null,
    createdAt: ms,
    runAt: Math.max(spec.runAt ?? ms + spec.delayMs, ms),
    startedAt: null,
    updatedAt: ms,
    completedAt: null,
    workerId: null,
    progress: null,
    result: null,
    error: null,
    tags,
    idempotencyKey,
  }
}

export function taskOf(partition: number, ref: string, [where, lane, text, more]: Found): Task {
  const lines = text.split('\n')
  const head = where === 'F' ? '0,0,0' : lines[0]!
  const task = taskOfParts(partition, ref, lane, head, lines[3]!, lines[1]!, lines[2]!)
  if (where === 'F') return { ...task, ...finishedPart(lines[0]!), progress: json(lines[4]), result: json(lines[5]) }
  if (where === 'L') {
    const lease = leaseOf(more)
    return {
      ...task,
      status: 'processing',
      attempts: lease.attempts,
      deliveries: Number(lease.fence),
      runAt: lease.runAt,
      startedAt: lease.startedAt,
      updatedAt: lease.startedAt,
      workerId: lease.workerId,
      progress: json(lines[4]),
    }
  }
  return task
}

/** A waiting task, from the parts that an entry has. */
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
  const plain = extras === '' || extras === '{},null,null'
  const [tags, idempotencyKey] = plain ? [{}, null] : (JSON.parse(`[${extras}]`) as [Record<string, string>, string])
  return {
    id: idOfRef(partition, ref),
    type: lane.slice(0, -2),
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
    tags,
    idempotencyKey,
  }
}

function finishedPart(head: string): Partial<Task> {
  const parts = head.split('|')
  const completedAt = Number(parts[10])
  return {
    status: parts[0] as Status,
    timeoutReason: (parts[1] || null) as TimeoutReason | null,
    queueTimeoutMs: Number(parts[2]),
    processTimeoutMs: Number(parts[3]),
    maxRetry: Number(parts[4]),
    attempts: Number(parts[5]),
    deliveries: Number(parts[7]),
    runAt: Number(parts[8]),
    startedAt: numberOrNull(parts[9]!),
    updatedAt: completedAt,
    completedAt,
    workerId: json(parts.slice(11).join('|')) as string | null,
  }
}

/** What settling has to know of a lease. */
export interface LeaseState extends Running {
  ref: string
  type: string
  fence: string
  startedAt: number
  expiresAt: number
  workerId: string
}

/** A record of `leases`. */
export function leaseOf(record: string): Omit<LeaseState, 'ref' | 'type'> {
  const parts = record.split('|')
  return {
    fence: parts[0]!,
    cancelRequested: parts[1] !== '0',
    startedAt: Number(parts[3]),
    expiresAt: Number(parts[5]),
    deadlineAt: numberOrNull(parts[6]!),
    attempts: Number(parts[7]),
    lostLeases: Number(parts[8]),
    maxRetry: Number(parts[11]),
    runAt: Number(parts[12]),
    workerId: JSON.parse(parts.slice(13).join('|')) as string,
  }
}

/** Milliseconds; '0' is none. */
function numberOrNull(text: string): number | null {
  return text === '0' ? null : Number(text)
}

function json(text: string | undefined): Json & Progress {
  return (text === undefined || text === 'null' ? null : JSON.parse(text)) as Json & Progress
}
