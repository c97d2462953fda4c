import type { Holder, TypeInfo } from '../engine/engine.ts'
import type { Task } from '../task/task.ts'

/** The forms that leave the process: snake_case, seconds, RFC 3339. */

export function isoTime(ms: number): string
export function isoTime(ms: number | null): string | null
export function isoTime(ms: number | null): string | null {
  if (ms === null) return null
  if (ms !== latest.ms) latest = { ms, text: new Date(ms).toISOString() }
  return latest.text
}

/** A task that was just changed has the same time two or three times over, and writing one is slow. */
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
  }
}

export function typeJson(info: TypeInfo) {
  const percentiles = (of: TypeInfo['waitMs']) =>
    of && { p50: of.p50 / 1_000, p95: of.p95 / 1_000, p99: of.p99 / 1_000 }
  return {
    type: info.type,
    pending: info.pending,
    delayed: info.delayed,
    processing: info.processing,
    max_concurrency: info.maxConcurrency,
    group_concurrency: info.groupConcurrency,
    rate: rateJson(info.rate),
    paused: info.paused,
    declared: info.declared,
    workers: info.workers,
    throughput: info.throughput,
    wait: percentiles(info.waitMs),
    run: percentiles(info.runMs),
    payload_schema: info.payloadSchema,
  }
}

export function rateJson(rate: TypeInfo['rate']) {
  return rate && { max: rate.max, per: rate.perMs / 1_000 }
}

export function holderJson(holder: Holder) {
  return {
    task_id: holder.taskId,
    worker_id: holder.workerId,
    since: isoTime(holder.since),
    lease_expires_at: isoTime(holder.expiresAt),
    group: holder.group,
  }
}
