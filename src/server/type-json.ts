import type { Holder, TypeInfo } from '../queue/queue.ts'
import type { Ceilings } from '../task/ceilings.ts'
import { retentionOf, type TypeRetention } from '../task/retention.ts'
import { isoTime } from '../task/task-json.ts'

/** The wire formats of types and permits: snake_case, seconds, RFC 3339. */

export function typeJson(info: TypeInfo) {
  const percentiles = (of: TypeInfo['waitMs']) =>
    of && { p50: of.p50 / 1_000, p95: of.p95 / 1_000, p99: of.p99 / 1_000 }
  return {
    type: info.type,
    pending: info.pending,
    delayed: info.delayed,
    dependent: info.dependent,
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
    ceilings: ceilingsJson(info.ceilings),
    retention: retentionJson(info.retention),
  }
}

/** Null: none is set. */
export function ceilingsJson(ceilings: Ceilings) {
  const seconds = (ms: number | undefined) => (ms === undefined ? null : ms / 1_000)
  return {
    max_retry: ceilings.maxRetry ?? null,
    priority: ceilings.priority ?? null,
    queue_timeout: seconds(ceilings.queueTimeoutMs),
    process_timeout: seconds(ceilings.processTimeoutMs),
    payload_bytes: ceilings.payloadBytes ?? null,
  }
}

/** What is in force; null: the server's default. */
export function retentionJson(retention: TypeRetention) {
  const { success, failed, canceled, timeout } = retentionOf(retention)
  const seconds = (ms: number | undefined) => (ms === undefined ? null : ms / 1_000)
  return { success: seconds(success), failed: seconds(failed), canceled: seconds(canceled), timeout: seconds(timeout) }
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
