import type { HandlerSettings, Lease, Rate, Renewed, Settled, Turn } from '../queue/queue.ts'
import { ERRORS, type ErrorCode, XQueueError } from '../task/errors.ts'
import type { Predecessor } from '../task/flow.ts'
import { textOf } from '../task/json.ts'
import type { AttemptLog } from '../task/log-line.ts'
import { type TaskJson, taskOfJson } from '../task/task-json.ts'
import type { Uses } from '../task/uses.ts'

/** The wire formats of POST /api/v1/tasks/turn and /api/v1/handlers, from the side of a worker. */

interface Problem {
  code: string
  detail: string
}

export interface TurnJson {
  outcomes: { status?: Settled['status']; problem?: Problem }[]
  renewals: { expires_at?: string; cancel_requested?: boolean; problem?: Problem }[]
  leases: { lease: string; expires_at: string; task: TaskJson; predecessors: Predecessor[] }[]
  cancel_requested?: string[]
}

/**
 * An outcome as JSON; null for a time-out, which the server notices by itself.
 */
export function outcomeText({ lease, outcome }: NonNullable<Turn['outcomes']>[number]): string | null {
  const head = `{"lease":${JSON.stringify(lease)}`
  switch (outcome.kind) {
    case 'success':
      return `${head},"result":${textOf(outcome.result)}${usageText(outcome.usage)}}`
    case 'failure': {
      const { error, retry, delayMs } = outcome
      const delay = delayMs === null ? '' : `,"delay":${delayMs / 1_000}`
      return `${head},"error":${JSON.stringify(error)},"retry":${retry}${delay}${usageText(outcome.usage)}}`
    }
    case 'held': {
      const limit = outcome.limit == null ? '' : `,"limit":${JSON.stringify(outcome.limit)}`
      return `${head},"error":${JSON.stringify(outcome.error)},"hold":${outcome.holdMs / 1_000}${limit}}`
    }
    case 'released':
      return `${head},"release":true}`
    case 'timeout':
      return null
  }
}

function usageText(usage: Uses | undefined): string {
  return usage === undefined ? '' : `,"usage":${JSON.stringify(usage)}`
}

export function renewalText({ lease, progress }: NonNullable<Turn['renewals']>[number]): string {
  const reported = progress === undefined ? '' : `,"progress":${textOf(progress)}`
  return `{"lease":${JSON.stringify(lease)}${reported}}`
}

/** The lines are JSON as the server takes them. */
export function logsText({ lease, lines, skipped = 0 }: AttemptLog): string {
  return `{"lease":${JSON.stringify(lease)},"skipped":${skipped},"lines":[${lines.join(',')}]}`
}

/** @throws XQueueError the refusal of the server, unless the lease is lost */
export function settledOf({ status, problem }: TurnJson['outcomes'][number]): Settled {
  if (!problem) return { accepted: true, status: status ?? null }
  if (problem.code === 'lease_lost') return { accepted: false, status: null }
  throw new XQueueError(codeOf(problem), problem.detail)
}

/** @param aheadMs how far this machine's clock is ahead of the server's */
export function renewedOf({ expires_at, cancel_requested }: TurnJson['renewals'][number], aheadMs: number) {
  if (expires_at === undefined) return null
  const renewed: Renewed = { expiresAt: Date.parse(expires_at) + aheadMs, cancelRequested: cancel_requested === true }
  return renewed
}

export function leaseOf({ lease, expires_at, task: json, predecessors }: TurnJson['leases'][number], aheadMs: number) {
  const task = taskOfJson(json)
  const { processTimeoutMs } = task
  const deadlineAt = processTimeoutMs === 0 ? null : Date.now() + processTimeoutMs
  const taken: Lease = { lease, expiresAt: Date.parse(expires_at) + aheadMs, deadlineAt, task, predecessors }
  return taken
}

function codeOf({ code }: Problem): ErrorCode {
  return Object.hasOwn(ERRORS, code) ? (code as ErrorCode) : 'internal'
}

/** The settings of a handler; the server does not need its payload's schema, because the worker validates. */
export function handlerText(type: string, settings: HandlerSettings): string {
  const { maxConcurrency, groupConcurrency, groupTurns, rate, retry, limits = {}, retention = {} } = settings
  const { maxRetry, queueTimeoutMs, processTimeoutMs, uses } = settings.defaults
  const { baseMs, factor, capMs, jitter } = retry
  return JSON.stringify({
    type,
    concurrency: maxConcurrency,
    group_concurrency: groupConcurrency,
    group_turns: groupTurns,
    rate: rateJson(rate),
    uses,
    limits: mapped(limits, ({ max, rate: of }) => ({ max, rate: rateJson(of) })),
    max_retry: maxRetry,
    queue_timeout: seconds(queueTimeoutMs),
    process_timeout: seconds(processTimeoutMs),
    retry: { base: seconds(baseMs), factor, cap: seconds(capMs), jitter },
    retention: mapped(retention, seconds),
  })
}

function rateJson(rate: Rate | null) {
  return rate === null ? undefined : { max: rate.max, per: seconds(rate.perMs) }
}

function seconds(ms: number | undefined): number | undefined {
  return ms === undefined ? undefined : ms / 1_000
}

function mapped<Value, To>(values: Readonly<Record<string, Value>>, to: (value: Value) => To): Record<string, To> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, to(value)]))
}
