import type { Json, JsonText } from './json.ts'
import { retryDelayMs } from './retry.ts'
import type { Status, TimeoutReason } from './status.ts'
import { TASK_LIMITS } from './task.ts'

/** The error of a task that ended in `timeout` before its first start. */
export const WAITED_TOO_LONG = 'the task waited longer than its queue_timeout for a worker'

/**
 * What a lease is settled with. `released` gives the task back untouched (shutdown, deploy). A cancelled task ends as
 * `canceled` whatever its handler comes back with.
 */
export type Outcome =
  | { kind: 'success'; result: Json | JsonText }
  /** `retry: false` ends it now; `delayMs` overrides the type's back-off. */
  | { kind: 'failure'; error: string; retry: boolean; delayMs: number | null }
  | { kind: 'timeout' }
  | { kind: 'released' }

/** A failure, with as much of its error as is kept; one whose delay cannot be used says so, and is retried as ever. */
export function failureOf(
  error: string,
  { retry, delayMs, unusable }: { retry: boolean; delayMs: number | null; unusable: string | null },
): Outcome {
  const note =
    unusable === null ? '' : `(the delay ${unusable} is not valid, use at most 366 days: the type's back-off applies) `
  return { kind: 'failure', error: bounded(note + error), retry, delayMs }
}

/** What a task's attempt ends as whose outcome cannot be stored: the others of its turn are none the worse for it. */
export function refusedOutcome(reason: string): Outcome {
  return failureOf(`the outcome was refused: ${reason}`, { retry: false, delayMs: null, unusable: null })
}

function bounded(error: string): string {
  return error.slice(0, TASK_LIMITS.errorCharsMax).toWellFormed()
}

/** How a lease ended: the worker's outcome, or `lost` when it expired. */
export type Ending = Outcome | { kind: 'lost' }

/** What `settle` has to know of a running task. */
export interface Running {
  attempts: number
  /** Leases lost since it was submitted or retried. */
  lostLeases: number
  maxRetry: number
  runAt: number
  /** When the attempt runs out of time, or null. */
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
}

/**
 * The one place that decides what becomes of a task whose lease ended. Pure: time and chance are handed in.
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
  const again = (error: string, delayMs: number | null): Settlement => ({
    ...ended,
    status: 'pending',
    error,
    runAt: now + (delayMs ?? retryDelayMs(policy.delaysMs, policy.jitter, ended.attempts, random)),
  })
  const retriesLeft = ended.attempts <= task.maxRetry

  if (task.cancelRequested) {
    const ran = ending.kind !== 'lost' && ending.kind !== 'released'
    return { ...(ran ? ended : same), status: 'canceled' }
  }
  // An outcome that comes after the deadline is too late, even when no sweep has passed yet.
  const late = task.deadlineAt !== null && now >= task.deadlineAt
  const kind = late && (ending.kind === 'success' || ending.kind === 'failure') ? 'timeout' : ending.kind
  switch (kind) {
    case 'success':
      return { ...ended, status: 'success', result: (ending as { result: Json | JsonText }).result }
    case 'failure': {
      const { error, retry, delayMs } = ending as Extract<Outcome, { kind: 'failure' }>
      return retry && retriesLeft ? again(error, delayMs) : { ...ended, status: 'failed', error }
    }
    case 'timeout': {
      const error = 'the attempt ran longer than its process_timeout'
      return retriesLeft ? again(error, null) : { ...ended, status: 'timeout', error, timeoutReason: 'processing' }
    }
    case 'released':
      return { ...same, status: 'pending' }
    case 'lost': {
      const lostLeases = task.lostLeases + 1
      if (lostLeases < policy.lostLeasesMax) return { ...same, lostLeases, status: 'pending' }
      const error = `poison: ${lostLeases} workers were lost while they ran the task (max_deliveries)`
      return { ...same, lostLeases, status: 'failed', error }
    }
  }
}
