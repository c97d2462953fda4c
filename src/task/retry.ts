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
const RATE_LIMITED = Symbol.for('xqueue.RateLimited')

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
  constructor(delay: number | string, message = `retry after ${timeText(delay)}`, options?: ErrorOptions) {
    super(message, options)
    this.delay = delay
  }

  /** Whole milliseconds; null for an invalid delay. */
  get delayMs(): number | null {
    return delayWithin(msOf(this.delay))
  }

  get [RETRY_AFTER](): true {
    return true
  }
}

/**
 * Thrown by a handler whose service refuses further calls for some time, as with HTTP 429: no task of the type, or none
 * that uses the named limit, starts before that time has passed, in any process. The task itself runs again then, and
 * no attempt counts. An invalid time (0 or less, or longer than 24 hours) counts as a failed attempt, and the task's
 * error says so. Less than a second is a second.
 */
export class RateLimited extends Error {
  static override [Symbol.hasInstance](value: unknown): boolean {
    // biome-ignore lint/complexity/noThisInStatic: `this` may be a subclass
    return isInstance(value, this, RateLimited, RATE_LIMITED)
  }

  override name = 'RateLimited'
  /** The time as given. */
  readonly for: number | string
  /** The named limit to hold; null: the task's type. */
  readonly limit: string | null

  /**
   * @param options.for seconds, or a string with units: `"20s"`; more than 0, less than a second is a second
   * @param options.limit a named limit that the task uses; without one, the type is held
   */
  constructor(
    options: { for: number | string; limit?: string | null },
    message = `rate limited for ${timeText(options?.for)}`,
  ) {
    super(message)
    this.for = options?.for
    this.limit = options?.limit ?? null
  }

  get [RATE_LIMITED](): true {
    return true
  }
}

/** How a handler's error is retried. `unusable`: why the time that it gives is not used. */
export interface Retry {
  retry: boolean
  delayMs: number | null
  /** If set, the task's type or `limit` is held, and the rest does not apply. */
  holdMs?: number | null
  limit?: string | null
  unusable: string | null
}

/** The retry decision of a thrown value. Never throws. */
export function retryOf(thrown: unknown): Retry {
  const backOff = { retry: !hasBrand(thrown, DO_NOT_RETRY), delayMs: null, unusable: null }
  try {
    if (hasBrand(thrown, RATE_LIMITED)) {
      const { for: time, limit } = thrown as RateLimited
      return { ...backOff, ...holdOf(msOf(time), timeText(time)), limit: typeof limit === 'string' ? limit : null }
    }
    if (!hasBrand(thrown, RETRY_AFTER)) return backOff
    const { delay } = thrown as RetryAfter
    return { ...backOff, ...delayOf(msOf(delay), timeText(delay)) }
  } catch {
    return { ...backOff, unusable: 'its time cannot be read' }
  }
}

/** A delay in milliseconds, if it is valid. */
export function delayOf(ms: unknown, text = `${ms} ms`): { delayMs: number | null; unusable: string | null } {
  const delayMs = delayWithin(ms)
  return { delayMs, unusable: delayMs === null ? `the delay ${text} is not valid, use at most 366 days` : null }
}

/** The time of a hold in milliseconds, if it is valid. */
export function holdOf(ms: unknown, text = `${ms} ms`): { holdMs: number | null; unusable: string | null } {
  // A hold of no time would hand the task out again and again, with no attempt that counts.
  const holdMs = Number(ms) > 0 ? within(ms, TASK_LIMITS.holdMsMax) : null
  if (holdMs !== null) return { holdMs: Math.max(holdMs, 1), unusable: null }
  return { holdMs, unusable: `the hold of ${text} is not valid, use more than 0 s and at most 24 hours` }
}

function delayWithin(ms: unknown): number | null {
  return within(ms, TASK_LIMITS.durationMsMax)
}

/** Whole milliseconds, 0 for a time in the past; null if it is no number or too long. */
function within(ms: unknown, most: number): number | null {
  if (typeof ms !== 'number' || Number.isNaN(ms) || ms > most) return null
  return Math.max(Math.round(ms), 0)
}

/** A number of seconds, or a string with units, in milliseconds; null if it is invalid. */
function msOf(time: unknown): number | null {
  if (typeof time === 'number') return time * 1_000
  try {
    return parseDurationMs(time)
  } catch {
    return null
  }
}

function timeText(time: unknown): string {
  if (typeof time === 'number') return `${time} s`
  if (typeof time === 'string') return time.slice(0, 80)
  return time === null ? 'null' : typeof time
}
