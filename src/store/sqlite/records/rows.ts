import type { TaskEvent } from '../../../task/event.ts'
import type { OnFailure } from '../../../task/flow.ts'
import type { Json } from '../../../task/json.ts'
import type { Running } from '../../../task/outcome.ts'
import { publicStatus, type Status, type StoredStatus, type TimeoutReason } from '../../../task/status.ts'
import type { Progress, Task } from '../../../task/task.ts'
import { groupOfLane, NO_USES, type Uses } from '../../../task/uses.ts'
import type { Row, Value } from '../database/database.ts'

/** The columns that `taskOf` reads, in its order, before those that may be long. */
const SHORT = `t.seq, t.id, t.type, t.status, t.priority, t.attempts, t.deliveries, t.max_retry, t.queue_timeout_ms,
  t.process_timeout_ms, t.timeout_reason, t.created_at, t.run_at, t.started_at, t.updated_at, t.completed_at,
  t.worker_id, t.tags, t.idempotency_key, t.task_group, t.uses, t.waits_for, t.on_failure, t.batch`
const PARTS = ['t.progress', 't.result', 't.error', 'p.payload']
const bounded = PARTS.map((part) => `CASE WHEN octet_length(${part}) <= ?2 THEN ${part} END`)
const bytes = PARTS.map((part) => `IFNULL(octet_length(${part}), 0)`).join(' + ')
const bare = `CASE WHEN length(t.progress) <= 24 THEN t.progress END, NULL, NULL, 'null'`
/** By a list of seqs, in its order, which `CROSS` keeps. */
const LISTED = 'FROM json_each(?1) listed CROSS JOIN tasks t ON t.seq = listed.value'

/** Selects tasks for `taskOf`; a condition follows. */
export const TASKS = `SELECT ${SHORT}, ${PARTS.join(', ')} FROM tasks t CROSS JOIN payloads p ON p.seq = t.seq`
/** The same by seqs, without parts that have more bytes than ?2; and the bytes of all parts. */
export const TASKS_LISTED = `SELECT ${SHORT}, ${bounded.join(', ')}, ${bytes} ${LISTED}
  CROSS JOIN payloads p ON p.seq = t.seq`
/** The same without any part that may be long. */
export const BARE_TASKS = `SELECT ${SHORT}, ${bare} FROM tasks t`
export const BARE_TASKS_LISTED = `SELECT ${SHORT}, ${bare} ${LISTED}`

/** Places of columns in such rows. */
export const AT = { seq: 0, status: 3, lane: 19, bytes: 28 } as const

/** How long a part may be, so that those of so many tasks have at most so many bytes together. */
export function partBytesMax(bytesMax: number, tasks: number): number {
  return Math.floor(bytesMax / (tasks * PARTS.length))
}

/** Converts a row of these selections to the public form of the task. */
export function taskOf(values: readonly Value[]): Task {
  return {
    id: values[1] as string,
    type: values[2] as string,
    payload: JSON.parse(values[27] as string),
    priority: values[4] as number,
    status: publicStatus(values[3] as StoredStatus),
    attempts: values[5] as number,
    deliveries: values[6] as number,
    maxRetry: values[7] as number,
    queueTimeoutMs: values[8] as number,
    processTimeoutMs: values[9] as number,
    timeoutReason: values[10] as TimeoutReason | null,
    createdAt: values[11] as number,
    runAt: values[12] as number,
    startedAt: values[13] as number | null,
    updatedAt: values[14] as number,
    completedAt: values[15] as number | null,
    workerId: values[16] as string | null,
    progress: parse(values[24]) as Progress | null,
    result: parse(values[25]),
    error: values[26] as string | null,
    tags: (parse(values[17]) ?? {}) as Record<string, string>,
    idempotencyKey: values[18] as string | null,
    group: groupOf(values[19]),
    uses: usesOf(values[20]),
    after: afterOf(values[21]),
    onFailure: onFailureOf(values[22]),
    batch: values[23] as string | null,
  }
}

/** The fields that every change of a task needs; `progress` is JSON. */
export interface TaskState extends Running {
  seq: number
  id: string
  type: string
  priority: number
  /** Its group and the limits that it uses, '' for none. */
  lane: string
  uses: Uses
  /** As stored: one of the six, `delayed` or `dependent`. */
  status: string
  /** With the secret, the fence of its lease. */
  deliveries: number
  leaseSecret: string | null
  queueTimeoutMs: number
  workerId: string | null
  startedAt: number | null
  leaseMs: number | null
  progress: string | null
  error: string | null
  /** Whether it waits for others, or has waited. */
  depends: boolean
}

/** Reads a row of `statesBySeq` or `statesById`. */
export function stateOf(values: readonly Value[]): TaskState {
  return {
    seq: values[0] as number,
    id: values[1] as string,
    type: values[2] as string,
    status: values[3] as string,
    attempts: values[4] as number,
    deliveries: values[5] as number,
    lostLeases: values[6] as number,
    maxRetry: values[7] as number,
    queueTimeoutMs: values[8] as number,
    runAt: values[9] as number,
    deadlineAt: values[10] as number | null,
    cancelRequested: values[11] !== null,
    workerId: values[12] as string | null,
    startedAt: values[13] as number | null,
    leaseMs: values[14] as number | null,
    progress: values[15] as string | null,
    error: values[16] as string | null,
    priority: values[17] as number,
    lane: values[18] as string,
    depends: values[19] === 1,
    leaseSecret: values[20] as string | null,
    uses: usesOf(values[21]),
  }
}

/** Reads a row of `start`: the task that was just started, and its state. */
export function startedOf(
  values: readonly Value[],
  now: number,
  workerId: string,
  leaseMs: number,
  leaseSecret: string,
): { task: Task; state: TaskState } {
  const task: Task = {
    id: values[1] as string,
    type: values[2] as string,
    payload: JSON.parse(values[21] as string),
    priority: values[3] as number,
    status: 'processing',
    attempts: values[4] as number,
    deliveries: values[5] as number,
    maxRetry: values[6] as number,
    queueTimeoutMs: values[7] as number,
    processTimeoutMs: values[8] as number,
    timeoutReason: null,
    createdAt: values[9] as number,
    runAt: values[10] as number,
    startedAt: now,
    updatedAt: now,
    completedAt: null,
    workerId,
    progress: null,
    result: null,
    error: values[12] as string | null,
    tags: (parse(values[13]) ?? {}) as Record<string, string>,
    idempotencyKey: values[14] as string | null,
    group: groupOf(values[16]),
    uses: usesOf(values[20]),
    after: afterOf(values[17]),
    onFailure: onFailureOf(values[18]),
    batch: values[19] as string | null,
  }
  const { id, type, priority, status, attempts, deliveries, maxRetry, queueTimeoutMs, runAt, error } = task
  const state: TaskState = {
    seq: values[0] as number,
    id,
    type,
    priority,
    lane: values[16] as string,
    uses: task.uses,
    status,
    attempts,
    deliveries,
    lostLeases: values[15] as number,
    maxRetry,
    queueTimeoutMs,
    runAt,
    deadlineAt: values[11] as number | null,
    cancelRequested: false,
    workerId,
    startedAt: now,
    leaseMs,
    progress: null,
    error,
    depends: task.after.length > 0,
    leaseSecret,
  }
  return { task, state }
}

const NONE: readonly string[] = []

function afterOf(stored: Value | undefined): readonly string[] {
  return stored === null ? NONE : JSON.parse(stored as string)
}

/** The public form of a stored `on_failure`. */
export function onFailureOf(stored: Value | undefined): OnFailure {
  return (stored as OnFailure | null) ?? 'cancel'
}

/** The group of a stored lane. */
export function groupOf(stored: Value | undefined): string | null {
  return stored === '' ? null : groupOfLane(stored as string) || null
}

/** Many tasks have the same uses, and a claim reads them several times. */
const usesByText = new Map<string, Uses>()
const USES_KEPT_MAX = 1_000

/** The public form of stored uses; the same object for the same text. */
export function usesOf(stored: Value | undefined): Uses {
  if (stored === null || stored === undefined) return NO_USES
  const text = stored as string
  let uses = usesByText.get(text)
  if (uses === undefined) {
    uses = Object.freeze(JSON.parse(text) as Uses)
    if (usesByText.size >= USES_KEPT_MAX) usesByText.clear()
    usesByText.set(text, uses)
  }
  return uses
}

const textByUses = new WeakMap<Uses, string>()

/** The stored form of uses, null for none. Uses are never changed. */
export function storedUses(uses: Uses): string | null {
  if (uses === NO_USES) return null
  let text = textByUses.get(uses)
  if (text === undefined) {
    text = Object.keys(uses).length === 0 ? '' : JSON.stringify(uses)
    textByUses.set(uses, text)
  }
  return text || null
}

/** The token of a task's lease. A lease from before schema 6 has no secret, and is settled without it. */
export function tokenOf({ id, deliveries, leaseSecret }: Pick<TaskState, 'id' | 'deliveries' | 'leaseSecret'>): string {
  return `${id}.${deliveries}${leaseSecret ?? ''}`
}

/** The fields of an event that differ within its transaction; `progress` and `result` are JSON already. */
export interface EventFields {
  kind?: TaskEvent['kind']
  taskId: string
  type: string
  status: Status
  attempts: number
  progress?: string | null
  result?: string | null
  error?: string | null
  timeoutReason?: TimeoutReason | null
  workerId?: string | null
}

/** Writes an event of the outbox: an array, written by hand because it is on the path of every change. */
export function eventBody(event: EventFields): string {
  const { kind = 'status', error, timeoutReason, workerId } = event
  const head = `["${kind}","${event.taskId}","${event.type}","${event.status}",${event.attempts}`
  const values = `${event.progress ?? 'null'},${event.result ?? 'null'},${error ? JSON.stringify(error) : 'null'}`
  const worker = workerId ? JSON.stringify(workerId) : 'null'
  return `${head},${values},${timeoutReason ? `"${timeoutReason}"` : 'null'},${worker}]`
}

/** The events of one outbox row after a position, at most `max`. */
export function eventsOf(row: Row, after: number, max: number): TaskEvent[] {
  const first = (row.last as number) - (row.count as number) + 1
  const bodies = JSON.parse(row.body as string) as Json[][]
  const skipped = Math.max(0, after + 1 - first)
  return bodies.slice(skipped, skipped + max).map(
    ([kind, taskId, type, status, attempts, progress, result, error, timeoutReason, workerId], index) =>
      ({
        id: String(first + skipped + index),
        kind,
        taskId,
        type,
        status,
        attempts,
        progress,
        result,
        error,
        timeoutReason,
        workerId,
        at: row.at,
      }) as TaskEvent,
  )
}

function parse(text: Value | undefined): Json {
  return text === null || text === undefined ? null : JSON.parse(text as string)
}
