import { GROUP_TURNS, type Holder, type TypeInfo } from '../queue/queue.ts'
import type { Ceilings } from '../task/ceilings.ts'
import { Type } from '../task/json-schema.ts'
import { retentionOf, type TypeRetention } from '../task/retention.ts'
import { FINAL_STATUSES } from '../task/status.ts'
import { isoTime } from '../task/task-json.ts'
import { count, json, nullable, orNull, seconds, time, timeOrNull } from './fields.ts'

/** The wire formats of types and permits with their schemas: snake_case, seconds, RFC 3339. */

export const RateSchema = Type.Object({ max: Type.Integer(), per: seconds('The window') }, { title: 'Rate' })

export const GroupTurnsSchema = {
  type: 'string',
  enum: [...GROUP_TURNS],
  description: 'What groups share fairly while they take turns: started `tasks`, or running `time`',
}

export const Percentiles = Type.Object(
  { p50: seconds('Half'), p95: seconds('19 of 20'), p99: seconds('99 of 100') },
  { title: 'Percentiles' },
)

const CeilingsSchema = Type.Object(
  {
    max_retry: orNull('integer'),
    priority: orNull('integer'),
    queue_timeout: orNull('number', { description: 'Seconds' }),
    process_timeout: orNull('number', { description: 'Seconds' }),
    payload_bytes: orNull('integer'),
  },
  { title: 'Ceilings', description: 'Maximum values of a submission, set by operators; null: not set' },
)

const RetentionSchema = Type.Object(
  Object.fromEntries(FINAL_STATUSES.map((status) => [status, orNull('number', { description: 'Seconds' })])),
  {
    title: 'Retention',
    description: "How long tasks are kept after they have ended, by their status; null: the server's retention-age",
  },
)

export const TaskTypeSchema = Type.Object(
  {
    type: Type.String({ description: 'Name of the type' }),
    pending: count('Waiting tasks, including delayed and dependent ones'),
    delayed: count('Tasks with a start time in the future'),
    dependent: count('Tasks that wait for other tasks'),
    processing: count('Running tasks'),
    max_concurrency: orNull('integer', { description: 'Maximum number of running tasks; null: no limit' }),
    group_concurrency: orNull('integer', { description: 'The same for each group' }),
    group_turns: GroupTurnsSchema,
    rate: nullable(RateSchema, 'At most `max` starts in any `per` seconds; null: no limit'),
    paused: Type.Boolean({ description: 'true: accepts tasks but starts none' }),
    held_until: timeOrNull('No task starts before this time; null: not held'),
    declared: Type.Boolean({ description: 'true: known without a worker' }),
    workers: count('Live workers that run it'),
    throughput: Type.Number({ description: 'Ended tasks per second, over the last minute' }),
    wait: nullable(
      Percentiles,
      'Seconds from `run_at` to the start: `p50`, `p95`, `p99`, estimated to within 19 %; null: no recent tasks',
    ),
    run: nullable(Percentiles, 'Seconds from the start to the end, estimated likewise: `p50`, `p95`, `p99`'),
    payload_schema: json('JSON Schema of the payload, if the handler has one'),
    ceilings: CeilingsSchema,
    retention: RetentionSchema,
  },
  { $id: 'TaskType' },
)

export const HolderSchema = Type.Object(
  {
    task_id: Type.String(),
    worker_id: Type.String(),
    since: time('Time at which the task took the permit'),
    lease_expires_at: time('Expiry of the permit unless it is renewed'),
    group: orNull('string'),
  },
  { $id: 'Holder' },
)

export function typeJson(info: TypeInfo) {
  return {
    type: info.type,
    pending: info.pending,
    delayed: info.delayed,
    dependent: info.dependent,
    processing: info.processing,
    max_concurrency: info.maxConcurrency,
    group_concurrency: info.groupConcurrency,
    group_turns: info.groupTurns,
    rate: rateJson(info.rate),
    paused: info.paused,
    held_until: info.heldUntil === null ? null : isoTime(info.heldUntil),
    declared: info.declared,
    workers: info.workers,
    throughput: info.throughput,
    wait: percentilesJson(info.waitMs),
    run: percentilesJson(info.runMs),
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

export function percentilesJson(of: TypeInfo['waitMs']) {
  return of && { p50: of.p50 / 1_000, p95: of.p95 / 1_000, p99: of.p99 / 1_000 }
}
