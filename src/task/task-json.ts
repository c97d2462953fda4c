import { payloadTextOf } from './payload-text.ts'
import type { Status, TimeoutReason } from './status.ts'
import type { Progress, Task } from './task.ts'
import { NO_USES } from './uses.ts'

/** The wire format of a task: snake_case, seconds, RFC 3339. */

export function isoTime(ms: number): string
export function isoTime(ms: number | null): string | null
export function isoTime(ms: number | null): string | null {
  if (ms === null) return null
  if (ms === latest.ms) return latest.text
  const number = Math.floor(ms / DAY_MS)
  if (number !== day.number) day = { number, text: new Date(ms).toISOString().slice(0, -TIME_CHARS) }
  const inDay = Math.trunc(ms) - number * DAY_MS
  const seconds = Math.floor(inDay / 1_000)
  const minutes = Math.floor(seconds / 60)
  const clock = `${TWO[Math.floor(minutes / 60)]}:${TWO[minutes % 60]}:${TWO[seconds % 60]}`
  latest = { ms, text: `${day.text}${clock}.${THREE[inDay % 1_000]}Z` }
  return latest.text
}

const DAY_MS = 86_400_000
const TIME_CHARS = '00:00:00.000Z'.length
/** A list contains the same days, and a task the same time several times: formatting a time by `Date` is slow. */
let day = { number: 0, text: '1970-01-01T' }
let latest = { ms: 0, text: '1970-01-01T00:00:00.000Z' }
const TWO = Array.from({ length: 60 }, (_, number) => String(number).padStart(2, '0'))
const THREE = Array.from({ length: 1_000 }, (_, number) => String(number).padStart(3, '0'))

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

/** The JSON of `taskJson`, field by field: lists have many. A payload whose text was kept is not written again. */
export function taskText(task: Task): string {
  const { id, type, priority, status, attempts, deliveries, maxRetry, uses, after, onFailure } = task
  const payload = payloadTextOf(task) ?? written(task.payload)
  const [queueTimeout, processTimeout] = [task.queueTimeoutMs / 1_000, task.processTimeoutMs / 1_000]
  return (
    `{"id":${written(id)},"type":${written(type)},"payload":${payload},"priority":${priority},"status":"${status}",` +
    `"attempts":${attempts},"deliveries":${deliveries},"max_retry":${maxRetry},"queue_timeout":${queueTimeout},` +
    `"process_timeout":${processTimeout},"timeout_reason":${written(task.timeoutReason)},` +
    `"created_at":${time(task.createdAt)},"run_at":${time(task.runAt)},"started_at":${time(task.startedAt)},` +
    `"updated_at":${time(task.updatedAt)},"completed_at":${time(task.completedAt)},` +
    `"worker_id":${written(task.workerId)},"progress":${written(task.progress)},"result":${written(task.result)},` +
    `"error":${written(task.error)},"tags":${written(task.tags)},"idempotency_key":${written(task.idempotencyKey)},` +
    `"group":${written(task.group)},"uses":${uses === NO_USES ? '{}' : written(uses)},` +
    `"after":${after.length === 0 ? '[]' : written(after)},"on_failure":"${onFailure}","batch":${written(task.batch)}}`
  )
}

function written(value: unknown): string {
  return value === null || value === undefined ? 'null' : JSON.stringify(value)
}

function time(ms: number | null): string {
  return ms === null ? 'null' : `"${isoTime(ms)}"`
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
