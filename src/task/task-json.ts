import { payloadTextOf } from './payload-text.ts'
import type { Status, TimeoutReason } from './status.ts'
import type { Progress, Task } from './task.ts'
import { NO_USES } from './uses.ts'

/** The wire format of a task: snake_case, seconds, RFC 3339. */

export function isoTime(ms: number): string
export function isoTime(ms: number | null): string | null
export function isoTime(ms: number | null): string | null {
  if (ms === null) return null
  if (ms !== latest.ms) latest = { ms, text: new Date(ms).toISOString() }
  return latest.text
}

/** A changed task contains the same time several times, and formatting a time is slow. */
let latest = { ms: 0, text: new Date(0).toISOString() }

export function taskJson(task: Task) {
  return {
    id: task.id,
    type: task.type,
    payload: task.payload,
    priority: task.priority,
    status: task.status,
    attempts: task.attempts,
    deliveries: task.deliveries,
    max_retry: task.maxRetry,
    queue_timeout: task.queueTimeoutMs / 1_000,
    process_timeout: task.processTimeoutMs / 1_000,
    timeout_reason: task.timeoutReason,
    created_at: isoTime(task.createdAt),
    run_at: isoTime(task.runAt),
    started_at: isoTime(task.startedAt),
    updated_at: isoTime(task.updatedAt),
    completed_at: isoTime(task.completedAt),
    worker_id: task.workerId,
    progress: task.progress,
    result: task.result,
    error: task.error,
    tags: task.tags,
    idempotency_key: task.idempotencyKey,
    group: task.group,
    uses: task.uses,
    after: task.after,
    on_failure: task.onFailure,
    batch: task.batch,
  }
}

export type TaskJson = ReturnType<typeof taskJson>

/** The text of `taskJson`. A payload whose text was kept is not written again. */
export function taskText(task: Task): string {
  const payload = payloadTextOf(task)
  if (payload === null) return JSON.stringify(taskJson(task))
  // Only texts come before it, and their quotes are escaped, so the first such field is the task's own.
  const [field, others] = ['"payload":', JSON.stringify({ ...taskJson(task), payload: 0 })]
  const at = others.indexOf(field) + field.length
  return others.slice(0, at) + payload + others.slice(at + 1)
}

/** Parses the output of `taskJson`. */
export function taskOfJson(json: TaskJson): Task {
  const time = (text: string | null) => (text === null ? null : Date.parse(text))
  return {
    id: json.id,
    type: json.type,
    payload: json.payload,
    priority: json.priority,
    status: json.status as Status,
    attempts: json.attempts,
    deliveries: json.deliveries,
    maxRetry: json.max_retry,
    queueTimeoutMs: json.queue_timeout * 1_000,
    processTimeoutMs: json.process_timeout * 1_000,
    timeoutReason: json.timeout_reason as TimeoutReason | null,
    createdAt: Date.parse(json.created_at),
    runAt: Date.parse(json.run_at),
    startedAt: time(json.started_at),
    updatedAt: Date.parse(json.updated_at),
    completedAt: time(json.completed_at),
    workerId: json.worker_id,
    progress: json.progress as Progress | null,
    result: json.result,
    error: json.error,
    tags: json.tags,
    idempotencyKey: json.idempotency_key,
    group: json.group,
    uses: json.uses ?? NO_USES,
    // Written before there was such a thing, it has none.
    after: json.after ?? [],
    onFailure: json.on_failure ?? 'cancel',
    batch: json.batch ?? null,
  }
}
