import type { KeptOutcome } from './attempt.ts'
import type { Json, JsonText } from './json.ts'
import { type Retry, retryDelayMs } from './retry.ts'
import { isCounted } from './run-again.ts'
import type { Status, TimeoutReason } from './status.ts'
import { TASK_LIMITS } from './task.ts'
import type { Uses } from './uses.ts'

/** The error of a task that ended in `timeout` before its first start. */
export const WAITED_TOO_LONG = 'the task waited longer than its queue_timeout for a worker'

/**
 * The outcome that settles a lease. `released` returns the task unchanged (shutdown, deploy). A canceled task ends as
 * `canceled` regardless of the outcome.
 */
export type Outcome =
  | { kind: 'success'; result: Json | JsonText; usage?: Uses }
  /** `retry: false` fails the task now; `delayMs` overrides the type's back-off. */
  | { kind: 'failure'; error: string; retry: boolean; delayMs: number | null; usage?: Uses }
  | { kind: 'timeout' }
  | { kind: 'released' }
  /**
   * Returns the task as `released` does, and no task that uses `limit` starts for `holdMs`. Without a limit, or with
   * one that the task does not use, no task of its type does.
   */
  | { kind: 'held'; error: string; holdMs: number; limit?: string | null }

/**
 * The outcome of a handler's error, which is truncated. An invalid delay or hold is noted in the error, and the type's
 * back-off applies.
 */
export function failureOf(error: string, { retry, delayMs, holdMs = null, limit = null, unusable }: Retry): Outcome {
  if (holdMs !== null) {
    return { kind: 'held', error: bounded(error), holdMs: Math.max(holdMs, TASK_LIMITS.holdMsMin), limit }
  }
  const note = unusable === null ? '' : `(${unusable}: the type's back-off applies) `
  return { kind: 'failure', error: bounded(note + error), retry, delayMs }
}

/** The failure that replaces an outcome that cannot be stored, so that other outcomes of the turn are not affected. */
export function refusedOutcome(reason: string): Outcome {
  return failureOf(`the outcome was refused: ${reason}`, { retry: false, delayMs: null, unusable: null })
}

function bounded(error: string): string {
  return error.slice(0, TASK_LIMITS.errorCharsMax).toWellFormed()
}

/** The end of a lease: the worker's outcome, or `lost` if it expired. */
export type Ending = Outcome | { kind: 'lost' }

/** How a lease ends that is due at a time without an outcome. */
export function dueEnding({ deadlineAt }: Pick<Running, 'deadlineAt'>, now: number): Ending {
  return { kind: deadlineAt !== null && deadlineAt <= now ? 'timeout' : 'lost' }
}

/** The fields of a running task that `settle` needs. */
export interface Running {
  attempts: number
  /** Leases lost since it was submitted or retried. */
  lostLeases: number
  maxRetry: number
  runAt: number
  /** Deadline of the attempt, or null. */
  deadlineAt: number | null
  cancelRequested: boolean
}

export interface SettlePolicy {
  delaysMs: readonly number[]
  jitter: number
  /** A task that lost this many leases is poison: it kills its workers. */
  lostLeasesMax: number
}

/** The task after its lease ended. */
export interface Settlement {
  status: Exclude<Status, 'processing'>
  attempts: number
  lostLeases: number
  runAt: number
  result: Json | JsonText
  error: string | null
  timeoutReason: TimeoutReason | null
  /** The outcome of the attempt, if the task goes on: such an attempt is kept beside the task. */
  attempt?: KeptOutcome
  /** If set, no task of the type starts for so long, or none that uses `heldLimit`. */
  holdMs?: number
  heldLimit?: string | null
}

/**
 * Decides the next state of a task whose lease ended. Pure: time and randomness are parameters.
 *
 * @param random 0 ≤ random < 1, for the jitter of the back-off
 */
export function settle(task: Running, ending: Ending, policy: SettlePolicy, now: number, random: number): Settlement {
  const same = {
    attempts: task.attempts,
    lostLeases: task.lostLeases,
    runAt: task.runAt,
    result: null,
    error: null,
    timeoutReason: null,
  }
  const ended = { ...same, attempts: task.attempts + 1 }
  const again = (attempt: KeptOutcome, error: string, delayMs: number | null): Settlement => ({
    ...ended,
    status: 'pending',
    attempt,
    error,
    runAt: now + (delayMs ?? retryDelayMs(policy.delaysMs, policy.jitter, ended.attempts, random)),
  })
  const retriesLeft = ended.attempts <= task.maxRetry

  const hold = ending.kind === 'held' && { holdMs: ending.holdMs, heldLimit: ending.limit ?? null }
  if (task.cancelRequested) {
    return { ...(isCounted(ending.kind) ? ended : same), status: 'canceled', ...hold }
  }
  // An outcome after the deadline is too late, even if no sweep has run yet.
  const late = task.deadlineAt !== null && now >= task.deadlineAt
  const kind = late && (ending.kind === 'success' || ending.kind === 'failure') ? 'timeout' : ending.kind
  switch (kind) {
    case 'success':
      return { ...ended, status: 'success', result: (ending as { result: Json | JsonText }).result }
    case 'failure': {
      const { error, retry, delayMs } = ending as Extract<Outcome, { kind: 'failure' }>
      return retry && retriesLeft ? again('failed', error, delayMs) : { ...ended, status: 'failed', error }
    }
    case 'timeout': {
      const error = 'the attempt ran longer than its process_timeout'
      return retriesLeft
        ? again('timeout', error, null)
        : { ...ended, status: 'timeout', error, timeoutReason: 'processing' }
    }
    case 'released':
      return { ...same, status: 'pending', attempt: 'released' }
    case 'held': {
      const { error } = ending as Extract<Outcome, { kind: 'held' }>
      return { ...same, status: 'pending', attempt: 'held', error, ...hold }
    }
    case 'lost': {
      const lostLeases = task.lostLeases + 1
      if (lostLeases < policy.lostLeasesMax) return { ...same, lostLeases, status: 'pending', attempt: 'lost' }
      const error = `poison: ${lostLeases} workers were lost while they ran the task (max_deliveries)`
      return { ...same, lostLeases, status: 'failed', error }
    }
  }
}
