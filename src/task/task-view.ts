import type { OnFailure } from './flow.ts'
import type { Json } from './json.ts'
import type { Status, TimeoutReason } from './status.ts'
import type { Progress, Task } from './task.ts'
import { type TaskJson, taskOfJson } from './task-json.ts'

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
  /** The tasks that it waits for before it may start. */
  after: readonly string[]
  onFailure: OnFailure
  /** Batch of the task; null: none. */
  batch: string | null
}

export function viewOf(task: Task): TaskView {
  const { queueTimeoutMs, processTimeoutMs, createdAt, runAt, startedAt, updatedAt, completedAt, ...same } = task
  return {
    ...same,
    queueTimeout: queueTimeoutMs / 1_000,
    processTimeout: processTimeoutMs / 1_000,
    createdAt: new Date(createdAt),
    runAt: new Date(runAt),
    startedAt: dateOf(startedAt),
    updatedAt: new Date(updatedAt),
    completedAt: dateOf(completedAt),
  }
}

export function viewOfJson(json: TaskJson): TaskView {
  return viewOf(taskOfJson(json))
}

function dateOf(ms: number | null): Date | null {
  return ms === null ? null : new Date(ms)
}
