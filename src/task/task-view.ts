import type { OnFailure } from './flow.ts'
import type { Json } from './json.ts'
import type { Status, TimeoutReason } from './status.ts'
import type { Progress, Task } from './task.ts'
import { type TaskJson, taskOfJson } from './task-json.ts'
import type { Uses } from './uses.ts'

/** A task as handlers and the client see it. Times are dates, durations are seconds. */
export interface TaskView<Payload = Json, Result = Json> {
  /** UUIDv7: sorts by the time of submission. */
  id: string
  type: string
  payload: Payload
  /** 0–9, higher runs first. */
  priority: number
  status: Status
  /** Handler runs that ended by themselves or by the time-out. */
  attempts: number
  /** Hand-outs to workers; a lost worker adds a delivery, not an attempt. */
  deliveries: number
  /** Retries after the first attempt. */
  maxRetry: number
  /** Maximum wait for the first start in seconds, counted from `runAt`; 0 = no limit. */
  queueTimeout: number
  /** Maximum duration of an attempt in seconds; 0 = no limit. */
  processTimeout: number
  timeoutReason: TimeoutReason | null
  createdAt: Date
  /** Earliest start: at submission, after the delay, or after the back-off of a retry. */
  runAt: Date
  /** Start of the latest attempt. */
  startedAt: Date | null
  updatedAt: Date
  completedAt: Date | null
  workerId: string | null
  /** Latest progress: 0–100 or an object. */
  progress: Progress | null
  /** Null until the task has succeeded. */
  result: Result | null
  /** Error of the latest failed attempt. */
  error: string | null
  tags: Readonly<Record<string, string>>
  idempotencyKey: string | null
  /** Tenant, account or customer within the type; null: none. */
  group: string | null
  /** Units of named limits that it uses while it runs. */
  uses: Uses
  /** The tasks that it waits for before it may start. */
  after: readonly string[]
  onFailure: OnFailure
  /** Batch of the task; null: none. */
  batch: string | null
}

/** Field by field, because it is made for each attempt: a spread takes ten times as long. */
export function viewOf(task: Task, payload: unknown = task.payload): TaskView {
  return {
    id: task.id,
    type: task.type,
    payload: payload as Json,
    priority: task.priority,
    status: task.status,
    attempts: task.attempts,
    deliveries: task.deliveries,
    maxRetry: task.maxRetry,
    queueTimeout: task.queueTimeoutMs / 1_000,
    processTimeout: task.processTimeoutMs / 1_000,
    timeoutReason: task.timeoutReason,
    createdAt: new Date(task.createdAt),
    runAt: new Date(task.runAt),
    startedAt: dateOf(task.startedAt),
    updatedAt: new Date(task.updatedAt),
    completedAt: dateOf(task.completedAt),
    workerId: task.workerId,
    progress: task.progress,
    result: task.result,
    error: task.error,
    tags: task.tags,
    idempotencyKey: task.idempotencyKey,
    group: task.group,
    uses: task.uses,
    after: task.after,
    onFailure: task.onFailure,
    batch: task.batch,
  }
}

export function viewOfJson(json: TaskJson): TaskView {
  return viewOf(taskOfJson(json))
}

function dateOf(ms: number | null): Date | null {
  return ms === null ? null : new Date(ms)
}
