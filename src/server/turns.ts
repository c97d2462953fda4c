import type { Renewed, Settled, Turn } from '../queue/queue.ts'
import { invalidField, leaseLost, XQueueError } from '../task/errors.ts'
import { changedNumberIn, type Json, joined, write } from '../task/json.ts'
import { Type } from '../task/json-schema.ts'
import { failureOf, type Outcome } from '../task/outcome.ts'
import { type Reported, reportedProgress } from '../task/progress.ts'
import { TASK_LIMITS } from '../task/task.ts'
import { isoTime } from '../task/task-json.ts'
import { type Uses, usageError } from '../task/uses.ts'
import { CLAIM_FIELDS, type Claim, Claims, LeaseList, leasesText, remoteWorker, waitMsOf } from './claims.ts'
import { ref, time } from './fields.ts'
import { JSON_TYPE } from './headers.ts'
import { boundedResult, type RetryInput, retryOf, settledLate, USAGE } from './leases.ts'
import { LeaseLog, type LineInput, logOf } from './log-input.ts'
import { problemOf } from './problems.ts'
import type { Route, ServerContext } from './route.ts'
import { StatusSchema } from './schemas.ts'

/** Outcomes, renewals and claims of one call, each. */
const ITEMS_MAX = 1_000
const closed = { additionalProperties: false }
const LeaseToken = Type.String({ maxLength: 200 })

const ReportedOutcome = Type.Object(
  {
    lease: LeaseToken,
    result: Type.Optional({ description: 'The task succeeded. Any JSON; default null' }),
    error: Type.Optional(
      Type.String({ description: `The attempt failed. Up to ${TASK_LIMITS.errorCharsMax} characters` }),
    ),
    retry: Type.Optional(Type.Boolean({ description: 'With `error`: false fails the task now; default true' })),
    delay: Type.Optional({
      title: 'RetryDelay',
      oneOf: [{ type: 'number' }, { type: 'string' }],
      description: 'With `error`: time until the retry, in seconds or as text with units',
    }),
    hold: Type.Optional({
      title: 'HoldTime',
      oneOf: [{ type: 'number' }, { type: 'string' }],
      description:
        'With `error`: no task of the type starts before this time has passed, more than 0 and up to 24 hours. ' +
        'The task is ready then, no attempt counts, and `delay` and `retry` do not apply',
    }),
    limit: Type.Optional(
      Type.String({ description: 'With `hold`: the named limit that is held, which the task uses. Default: the type' }),
    ),
    usage: Type.Optional({ description: USAGE }),
    release: Type.Optional(
      Type.Boolean({ description: 'true: the handler has not run. The task is ready again, and no attempt counts' }),
    ),
  },
  { ...closed, title: 'ReportedOutcome' },
)

const LeaseRenewal = Type.Object(
  {
    lease: LeaseToken,
    progress: Type.Optional({
      description: '0–100 (a number outside becomes the nearest bound), or an object of at most 16 KiB',
    }),
  },
  { ...closed, title: 'LeaseRenewal' },
)

const TurnBody = Type.Object(
  {
    ...CLAIM_FIELDS,
    max: Type.Optional(
      Type.Integer({ minimum: 0, maximum: ITEMS_MAX, description: 'Number of tasks to take; default 0' }),
    ),
    outcomes: Type.Optional(Type.Array(ReportedOutcome, { maxItems: ITEMS_MAX })),
    renewals: Type.Optional(Type.Array(LeaseRenewal, { maxItems: ITEMS_MAX })),
    logs: Type.Optional(
      Type.Array(LeaseLog, {
        maxItems: ITEMS_MAX,
        description: 'Lines of handlers. Those of a lease that is no longer held are dropped',
      }),
    ),
    leaving: Type.Optional(
      Type.Boolean({
        description:
          'true: the worker stops and is no longer listed. It takes no tasks (`max` 0), and its leases end when they ' +
          'are settled or expire. End its waiting calls first: they could still take tasks. Default: false',
      }),
    ),
  },
  closed,
)

const problem = Type.Optional({ ...ref('Problem'), description: 'The reason why the item is refused' })

const TurnAnswerSchema = Type.Object(
  {
    outcomes: Type.Array(Type.Object({ status: Type.Optional(StatusSchema), problem }, { title: 'SettledOutcome' }), {
      description: 'One for each outcome, in order: the status of the task, or the problem',
    }),
    renewals: Type.Array(
      Type.Object(
        {
          expires_at: Type.Optional(time('Expiry unless the lease is renewed')),
          cancel_requested: Type.Optional(Type.Boolean()),
          problem,
        },
        { title: 'RenewedLease' },
      ),
      { description: 'One for each renewal, in order. Invalid progress is a problem, but its lease is renewed' },
    ),
    ...LeaseList.properties,
    cancel_requested: Type.Optional(
      Type.Array(LeaseToken, { description: 'Leases of this worker whose tasks are canceled; only if there are any' }),
    ),
  },
  { title: 'TurnAnswer' },
)

interface ReportedOutcome extends RetryInput {
  lease: string
  result?: Json
  error?: string
  release?: boolean
  usage?: unknown
}

interface Body extends Claim {
  outcomes?: ReportedOutcome[]
  renewals?: { lease: string; progress?: unknown }[]
  logs?: { lease: string; lines: LineInput[]; skipped?: number }[]
  leaving?: boolean
}

/** POST /api/v1/tasks/turn: one round trip of a worker, like a turn of the embedded one. */
export function turnRoutes(context: ServerContext): Route[] {
  const claims = new Claims(context)
  return [
    {
      method: 'POST',
      url: '/api/v1/tasks/turn',
      scope: 'work',
      repairsText: true,
      marksNumbers: true,
      quiet: true,
      summary: 'Report outcomes, renew leases and take tasks in one call',
      body: TurnBody,
      bodyLimit: context.limits.batchBytesMax,
      answers: { 200: TurnAnswerSchema },
      refusals: ['invalid_duration', 'too_many_types', 'unknown_type'],
      handler: async (request, reply) => {
        const { outcomes = [], renewals = [], logs = [], max = 0, leaving = false, ...claim } = request.body as Body
        if (leaving) checkLeaving(request.body as Body)
        const waitMs = waitMsOf(claim)
        // A call that names no types and takes nothing is no sign of life of a worker.
        const isListed = max > 0 || claim.types !== undefined || leaving
        const turn = isListed ? { ...(await claims.turnOf(request, claim, max)), leaving } : SETTLING
        const reports = leaving || outcomes.length + renewals.length + logs.length > 0
        const [ended, kept] = [outcomes.map(outcomeOf), renewals.map(progressOf)]
        const answer = reports
          ? await claims.turn(request, {
              ...{ ...turn, ...acceptable(outcomes, ended), renewals: renewed(renewals, kept) },
              logs: logs.map(({ lease, lines, skipped }) => logOf(lease, lines, skipped)),
            })
          : { settled: [], renewed: [], ...(await claims.take(request, { ...turn, waitMs })) }
        const settled = answer.settled.values()
        const others = JSON.stringify({
          outcomes: outcomes.map(({ lease }, index) => settledJson(lease, ended[index]!, settled)),
          renewals: renewals.map(({ lease }, index) => renewedJson(lease, answer.renewed[index]!, kept[index]!)),
          ...(answer.cancelRequested.length > 0 ? { cancel_requested: answer.cancelRequested } : {}),
        })
        const text = `${others.slice(0, -1)},"leases":${leasesText(answer.leases)}}`
        claims.answered(text.length, answer.leases.length)
        reply.type(JSON_TYPE)
        return text
      },
    },
  ]
}

/** @throws XQueueError `invalid_request` */
function checkLeaving({ max = 0, worker_id }: Body): void {
  if (max > 0) throw invalidField('max', 'must be 0 with leaving: a worker that stops takes no tasks')
  if (worker_id === undefined) throw invalidField('worker_id', 'is missing: name the worker that leaves')
}

const SETTLING: Turn = { worker: remoteWorker('settling', []), want: 0, leaving: true, durable: true }

/** The outcome, or the reason why it is refused. */
function outcomeOf({ lease: _, result, error, release, usage, ...retry }: ReportedOutcome): Outcome | XQueueError {
  try {
    const wrong = usage === undefined ? null : usageError(usage)
    if (wrong) throw invalidField(wrong.path, wrong.message)
    const used = usage === undefined ? {} : { usage: usage as Uses }
    const given = [result !== undefined, error !== undefined, release === true].filter(Boolean).length
    if (given > 1) {
      throw new XQueueError('invalid_request', 'an outcome has more than one of result, error and release: send one')
    }
    // Success would be a guess: the worker has said how to retry or to release, and left out the rest.
    const [option] = Object.keys({ ...retry, ...(release === false && { release }) })
    if (given === 0 && option !== undefined) {
      const detail = `an outcome has ${option}, but none of result, error and release: true: send one of them`
      throw new XQueueError('invalid_request', detail)
    }
    if (release) return { kind: 'released' }
    if (error !== undefined) {
      const max = TASK_LIMITS.errorCharsMax
      if (error.length > max) throw invalidField('error', `must have at most ${max} characters`)
      return { ...failureOf(error, retryOf(retry)), ...used }
    }
    const changed = changedNumberIn(result)
    const written = changed ? { fault: changed } : write(result ?? null)
    if ('written' in written) return { kind: 'success', result: boundedResult(written.written), ...used }
    throw invalidField(joined('result', written.fault.path), written.fault.message)
  } catch (refusal) {
    return refusal as XQueueError
  }
}

function progressOf({ progress }: { progress?: unknown }): Reported | null {
  if (progress === undefined) return null
  const changed = changedNumberIn(progress)
  return changed ? { ignored: `${joined('progress', changed.path)} ${changed.message}` } : reportedProgress(progress)
}

/** The outcomes of the turn: without those that are refused here. */
function acceptable(outcomes: readonly ReportedOutcome[], read: readonly (Outcome | XQueueError)[]) {
  const accepted = outcomes.flatMap(({ lease }, index) => {
    const outcome = read[index]!
    return outcome instanceof XQueueError ? [] : [{ lease, outcome }]
  })
  return { outcomes: accepted }
}

function renewed(renewals: readonly { lease: string }[], read: readonly (Reported | null)[]) {
  return renewals.map(({ lease }, index) => {
    const reported = read[index]!
    return reported && 'progress' in reported ? { lease, progress: reported.progress } : { lease }
  })
}

function settledJson(lease: string, outcome: Outcome | XQueueError, settled: Iterator<Settled>) {
  if (outcome instanceof XQueueError) return { problem: problemOf(outcome) }
  const { accepted, status } = settled.next().value as Settled
  return accepted ? { status } : { problem: problemOf(settledLate(lease, status)) }
}

function renewedJson(lease: string, renewed: Renewed | null, reported: Reported | null) {
  if (!renewed) return { problem: problemOf(leaseLost(lease)) }
  const { expiresAt, cancelRequested } = renewed
  const answer = { expires_at: isoTime(expiresAt), cancel_requested: cancelRequested }
  if (!reported || !('ignored' in reported)) return answer
  return { ...answer, problem: problemOf(invalidField('progress', `is not valid: ${reported.ignored}`)) }
}
