import type { FastifyRequest } from 'fastify'
import type { Queue } from '../queue/queue.ts'
import { invalidField, leaseLost, XQueueError } from '../task/errors.ts'
import { type Json, type JsonText, joined, write } from '../task/json.ts'
import { Type } from '../task/json-schema.ts'
import { failureOf, type Outcome } from '../task/outcome.ts'
import { reportedProgress } from '../task/progress.ts'
import type { Retry } from '../task/retry.ts'
import type { Status } from '../task/status.ts'
import { type Progress, TASK_LIMITS } from '../task/task.ts'
import { DurationSchema, durationOf } from '../task/task-input.ts'
import { isoTime } from '../task/task-json.ts'
import { USES_LIMITS, type Uses } from '../task/uses.ts'
import { durationMs, Predecessor, remoteWorker } from './claims.ts'
import { time } from './fields.ts'
import { type LineInput, LogLines, logOf } from './log-input.ts'
import type { Route, ServerContext } from './route.ts'
import { StatusSchema } from './schemas.ts'

const LeaseParams = Type.Object({ lease: Type.String({ maxLength: 200 }) })
const PredecessorParams = Type.Object({ lease: Type.String({ maxLength: 200 }), id: Type.String({ maxLength: 200 }) })

export const Settled = Type.Object({ status: StatusSchema }, { title: 'Settled' })

export const Renewed = Type.Object({
  expires_at: time('Expiry unless the lease is renewed'),
  cancel_requested: Type.Boolean(),
})

/** Fields of a failure that say how the task is retried. */
export interface RetryInput {
  retry?: boolean
  delay?: number | string
  hold?: number | string
  limit?: string
}

export const USAGE =
  'Units of named limits that the attempt has used in fact, {"tokens": 900}; corrects what their rates have counted'
const UsageSchema = Type.Record(Type.Integer({ minimum: 0, maximum: USES_LIMITS.unitsMax }), {
  maxProperties: USES_LIMITS.namesMax,
  propertyNames: { minLength: 1, maxLength: USES_LIMITS.nameCharsMax },
  description: USAGE,
})
const HeldLimitSchema = Type.String({
  minLength: 1,
  maxLength: USES_LIMITS.nameCharsMax,
  description: 'With `hold`: the named limit that is held, which the task uses. Default: the type',
})

export const HoldSchema = durationOf({
  title: 'Hold',
  least: 1,
  most: TASK_LIMITS.holdMsMax,
  meaning:
    'No task of the type starts before this time has passed. The task is ready then, no attempt counts, and `delay` ' +
    'and `retry` do not apply. ',
})

/** @throws XQueueError `invalid_duration`, `invalid_request` */
export function retryOf({ retry = true, delay, hold, limit }: RetryInput): Retry {
  const delayMs = delay === undefined ? null : durationMs('delay', delay)
  const holdMs = hold === undefined ? null : durationMs('hold', hold)
  if (holdMs === 0 || (holdMs ?? 0) > TASK_LIMITS.holdMsMax) {
    throw invalidField('hold', 'must be more than 0 seconds and at most 24 hours')
  }
  return { retry, delayMs, holdMs, limit: limit ?? null, unusable: null }
}

interface Logged {
  logs?: LineInput[]
}

/** Workers in any language: one call for each step of a lease. See turns.ts for many steps in one call. */
export function leaseRoutes(context: ServerContext): Route[] {
  return [completeTask(context), failTask(context), getPredecessor(context), renewLease(context)]
}

function completeTask({ queue, limits }: ServerContext): Route {
  return {
    method: 'POST',
    url: '/api/v1/leases/:lease/complete',
    scope: 'work',
    repairsText: true,
    summary: 'Report success',
    params: LeaseParams,
    body: Type.Object(
      {
        result: Type.Optional({ description: 'Any JSON' }),
        usage: Type.Optional(UsageSchema),
        logs: Type.Optional(LogLines),
      },
      { additionalProperties: false },
    ),
    bodyLimit: limits.taskBytesMax,
    answers: { 200: Settled },
    refusals: ['lease_lost'],
    handler: async (request) => {
      const { result = null, usage, logs } = (request.body ?? {}) as { result?: Json; usage?: Uses } & Logged
      const outcome = write(result)
      if ('fault' in outcome) throw invalidField(joined('result', outcome.fault.path), outcome.fault.message)
      const written = boundedResult(outcome.written)
      return settle(queue, request, { kind: 'success', result: written, ...(usage && { usage }) }, logs)
    },
  }
}

/** @throws XQueueError `too_large` */
export function boundedResult(result: JsonText): JsonText {
  const bytes = Buffer.byteLength(result.text)
  const max = TASK_LIMITS.resultBytesMax
  if (bytes <= max) return result
  const remedy = 'store it elsewhere, and return a reference'
  throw new XQueueError('too_large', `result has ${bytes} bytes, the maximum is ${max}: ${remedy}`)
}

function failTask({ queue }: ServerContext): Route {
  return {
    method: 'POST',
    url: '/api/v1/leases/:lease/fail',
    scope: 'work',
    repairsText: true,
    summary: 'Report a failure',
    params: LeaseParams,
    body: Type.Object(
      {
        error: Type.String({ maxLength: TASK_LIMITS.errorCharsMax }),
        retry: Type.Optional(Type.Boolean({ default: true })),
        delay: Type.Optional(DurationSchema),
        hold: Type.Optional(HoldSchema),
        limit: Type.Optional(HeldLimitSchema),
        usage: Type.Optional(UsageSchema),
        logs: Type.Optional(LogLines),
      },
      { additionalProperties: false },
    ),
    answers: { 200: Settled },
    refusals: ['lease_lost', 'invalid_duration'],
    handler: async (request) => {
      const { error, usage, logs, ...retry } = request.body as { error: string; usage?: Uses } & RetryInput & Logged
      return settle(queue, request, { ...failureOf(error, retryOf(retry)), ...(usage && { usage }) }, logs)
    },
  }
}

function getPredecessor({ queue }: ServerContext): Route {
  return {
    method: 'GET',
    url: '/api/v1/leases/:lease/predecessors/:id',
    scope: 'work',
    summary: 'Get a predecessor with its result, also where the lease omitted it',
    params: PredecessorParams,
    answers: { 200: Predecessor },
    refusals: ['lease_lost', 'not_found'],
    handler: async (request) => {
      const { lease, id } = request.params as { lease: string; id: string }
      const found = await queue.predecessor(lease, id)
      if (found) return found
      const remedy = 'give the id of one of its predecessors'
      throw new XQueueError('not_found', `the task has not waited for ${JSON.stringify(id)}: ${remedy}`)
    },
  }
}

function renewLease({ queue }: ServerContext): Route {
  return {
    method: 'POST',
    url: '/api/v1/leases/:lease/heartbeat',
    scope: 'work',
    repairsText: true,
    quiet: true,
    summary: 'Renew a lease, and get whether its task was canceled',
    params: LeaseParams,
    body: Type.Object(
      {
        progress: Type.Optional({
          oneOf: [{ type: 'number' }, { type: 'object' }],
          description: '0–100 (a number outside becomes the nearest bound), or an object of at most 16 KiB',
        }),
        logs: Type.Optional(LogLines),
      },
      { additionalProperties: false },
    ),
    answers: { 200: Renewed },
    refusals: ['lease_lost'],
    handler: async (request) => {
      const { lease } = request.params as { lease: string }
      const { progress, logs = [] } = (request.body ?? {}) as { progress?: Progress } & Logged
      const reported = progress === undefined ? {} : reportedProgress(progress)
      if ('ignored' in reported) throw invalidField('progress', `is not valid: ${reported.ignored}`)
      const renewals = [{ lease, ...reported }]
      const worker = remoteWorker('settling', [])
      const { renewed } = await queue.turn({ worker, want: 0, renewals, logs: [logOf(lease, logs)], leaving: true })
      if (!renewed[0]) throw leaseLost(lease)
      return { expires_at: isoTime(renewed[0].expiresAt), cancel_requested: renewed[0].cancelRequested }
    },
  }
}

async function settle(
  queue: Queue,
  request: FastifyRequest,
  outcome: Outcome,
  lines: readonly LineInput[] = [],
): Promise<{ status: Status }> {
  const { lease } = request.params as { lease: string }
  const outcomes = [{ lease, outcome }]
  const worker = remoteWorker('settling', [])
  const logs = [logOf(lease, lines)]
  const { settled } = await queue.turn({ worker, want: 0, outcomes, logs, leaving: true, durable: true })
  const { accepted, status } = settled[0]!
  if (!accepted) throw settledLate(lease, status)
  return { status: status! }
}

/** The error for an outcome that changed nothing. */
export function settledLate(lease: string, status: Status | null): XQueueError {
  return leaseLost(lease, status === null ? undefined : `the task is ${status}, and this outcome is too late`)
}
