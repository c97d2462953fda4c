import { hasBrand, isInstance } from './brand.ts'
import { parseDurationMs } from './duration.ts'
import { XQueueError } from './errors.ts'
import { TASK_LIMITS } from './task.ts'

/** The delay before the next attempt. Durations in milliseconds. */
export interface RetryPolicy {
  /** Delay before the first retry; default 1 s. */
  baseMs: number
  /** Factor of each further delay; default 2. */
  factor: number
  /** Longest delay; default 5 min. */
  capMs: number
  /** Random share of a delay, 0–1; default 0.2: a delay of 10 s becomes 8–10 s. */
  jitter: number
}

export const RETRY_DEFAULTS: RetryPolicy = { baseMs: 1_000, factor: 2, capMs: 300_000, jitter: 0.2 }

/** The list never grows longer than this; by then the last entry repeats in practice. */
const RETRY_DELAYS_MAX = 32

/**
 * A policy as data: the delays before each retry; the last entry repeats. Stores keep it with the type and only index
 * into it, so they do not implement back-off.
 */
export function retryDelaysMs(policy: RetryPolicy): number[] {
  const delays: number[] = []
  let delay = Math.min(policy.baseMs, policy.capMs)
  while (delays.length < RETRY_DELAYS_MAX) {
    delays.push(Math.round(delay))
    const next = Math.min(delay * policy.factor, policy.capMs)
    if (next === delay) break
    delay = next
  }
  return delays
}

/**
 * The delay before retry number `retry` (1 for the first), jitter taken off.
 *
 * @param random 0 ≤ random < 1
 */
export function retryDelayMs(delaysMs: readonly number[], jitter: number, retry: number, random: number): number {
  const delay = delaysMs[Math.min(retry, delaysMs.length) - 1] ?? 0
  return Math.round(delay * (1 - jitter * random))
}

/** Checks a policy and fills its gaps. @throws XQueueError `invalid_handlers` naming the field. */
export function completeRetryPolicy(input: Partial<RetryPolicy>): RetryPolicy {
  const policy = { ...RETRY_DEFAULTS, ...input }
  // A base above the default cap raises the cap.
  if (input.capMs === undefined) policy.capMs = Math.max(policy.capMs, policy.baseMs)
  const rules: [keyof RetryPolicy, boolean, string][] = [
    ['baseMs', policy.baseMs >= 0 && Number.isFinite(policy.baseMs), 'a duration of 0 or more'],
    ['factor', policy.factor >= 1 && policy.factor <= 100, 'a number from 1 to 100'],
    ['capMs', policy.capMs >= 0 && Number.isFinite(policy.capMs), 'a duration of 0 or more'],
    ['jitter', policy.jitter >= 0 && policy.jitter <= 1, 'a number from 0 to 1'],
  ]
  for (const [field, holds, allowed] of rules) {
    if (!holds) throw new XQueueError('invalid_handlers', `retry.${field} is ${policy[field]}: it must be ${allowed}`)
  }
  if (policy.baseMs > policy.capMs) {
    const detail = `retry.baseMs is ${policy.baseMs} and retry.capMs ${policy.capMs}: the base must not exceed the cap`
    throw new XQueueError('invalid_handlers', detail)
  }
  return policy
}

const DO_NOT_RETRY = Symbol.for('xqueue.DoNotRetry')
const RETRY_AFTER = Symbol.for('xqueue.RetryAfter')

/** Thrown by a handler: this task cannot succeed, do not retry it. */
export class DoNotRetry extends Error {
  static override [Symbol.hasInstance](value: unknown): boolean {
    // biome-ignore lint/complexity/noThisInStatic: `this` may be a subclass
    return isInstance(value, this, DoNotRetry, DO_NOT_RETRY)
  }

  override name = 'DoNotRetry'

  get [DO_NOT_RETRY](): true {
    return true
  }
}

/**
 * Thrown by a handler: retry, but not before `delay`, up to 366 days. Counts as an attempt. An invalid delay (`NaN`, or
 * longer) is replaced by the type's back-off, and the task's error says so.
 */
export class RetryAfter extends Error {
  static override [Symbol.hasInstance](value: unknown): boolean {
    // biome-ignore lint/complexity/noThisInStatic: `this` may be a subclass
    return isInstance(value, this, RetryAfter, RETRY_AFTER)
  }

  override name = 'RetryAfter'
  /** The delay as given. */
  readonly delay: number | string

  /** @param delay seconds, or a string with units: `"90s"` */
  constructor(delay: number | string, message = `retry after ${delayText(delay)}`, options?: ErrorOptions) {
    super(message, options)
    this.delay = delay
  }

  /** Whole milliseconds; null for an invalid delay. */
  get delayMs(): number | null {
    return delayMsOf(this.delay)
  }

  get [RETRY_AFTER](): true {
    return true
  }
}

/** A delay in whole milliseconds, 0 for a time in the past; null if it is invalid or longer than 366 days. */
export function usableDelayMs(delayMs: unknown): number | null {
  if (typeof delayMs !== 'number' || Number.isNaN(delayMs) || delayMs > TASK_LIMITS.durationMsMax) return null
  return Math.max(Math.round(delayMs), 0)
}

/** The same for a number of seconds, or a string with units. */
function delayMsOf(delay: unknown): number | null {
  if (typeof delay === 'number') return usableDelayMs(delay * 1_000)
  try {
    return parseDurationMs(delay)
  } catch {
    return null
  }
}

/** The retry decision of a thrown value. Never throws. */
export function retryOf(thrown: unknown): { retry: boolean; delayMs: number | null; unusable: string | null } {
  if (!hasBrand(thrown, RETRY_AFTER)) return { retry: !hasBrand(thrown, DO_NOT_RETRY), delayMs: null, unusable: null }
  try {
    const { delay } = thrown as RetryAfter
    const delayMs = delayMsOf(delay)
    return { retry: true, delayMs, unusable: delayMs === null ? delayText(delay) : null }
  } catch {
    return { retry: true, delayMs: null, unusable: 'its delay cannot be read' }
  }
}

function delayText(delay: unknown): string {
  if (typeof delay === 'number') return `${delay} s`
  return typeof delay === 'string' ? delay.slice(0, 80) : typeof delay
}
