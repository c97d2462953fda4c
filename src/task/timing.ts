import { Cron } from 'croner'
import { invalidField, type XQueueError } from './errors.ts'
import { nearest } from './nearest.ts'
import { TASK_LIMITS } from './task.ts'

/**
 * The ticks of a schedule. A cron has five fields: minute, hour, day of the month, month, day of the week. An interval
 * counts from 1970-01-01T00:00Z, so that `everyMs` of 15 minutes ticks at :00, :15, :30 and :45. Ticks depend only on
 * the timing, so they are the same in every process.
 *
 * At a clock change, a cron whose hour field names hours ticks once per named local time: at the first of two, or, if
 * the time is skipped, at the time to which the clocks are set. With `*` as the hour it continues in equal steps, also
 * through a repeated hour.
 */
export type Timing = CronTiming | IntervalTiming
type CronTiming = { cron: string; timezone: string }
type IntervalTiming = { everyMs: number }

/** A change of a cron, its time zone, or both. */
export type TimingChange = Partial<CronTiming> | IntervalTiming

export const TIMEZONE_DEFAULT = 'UTC'
export const EVERY_MS_MIN = 1_000
export const CRON_CHARS_MAX = 200

const FIELDS = [
  { name: 'minute', allowed: '0-59, such as */15 or 0,30', max: 59 },
  { name: 'hour', allowed: '0-23, such as 8-18 or */2', max: 23 },
  { name: 'day of the month', allowed: '1-31 or L for the last day, such as 1,15' },
  { name: 'month', allowed: '1-12 or JAN-DEC' },
  { name: 'day of the week', allowed: '0-7 (0 and 7 are Sunday) or SUN-SAT, such as MON-FRI' },
] as const
const EXAMPLE = 'such as "30 2 * * MON-FRI" for 2:30 from Monday to Friday'
/** Letters of names and L, W and #; no syntax that depends on the time of parsing. */
const FIELD = /^[\dA-Za-z*/,#-]+$/
const HOUR_MS = 3_600_000
const CRONS_MAX = 1_000

const crons = new Map<string, Cron>()

/** @throws XQueueError `invalid_request` for the time zone of an interval */
export function changedTiming(timing: Timing, change: TimingChange): Timing {
  if ('everyMs' in change) return change
  const before = 'cron' in timing ? timing : { timezone: TIMEZONE_DEFAULT }
  const { cron, timezone } = { ...before, ...change }
  if (cron === undefined) throw timezoneAlone()
  return { cron, timezone }
}

export function timezoneAlone(): XQueueError {
  return invalidField('timezone', 'needs cron: intervals count from 1970 in UTC')
}

/** The first tick after a time; null if there is none. */
export function nextTick(timing: Timing, after: number): number | null {
  if ('everyMs' in timing) return (Math.floor(after / timing.everyMs) + 1) * timing.everyMs
  return cronOf(timing).nextRun(new Date(after))?.getTime() ?? null
}

/** The ticks from `from` to `to`, oldest first; if there are more than `max`, the latest of them. */
export function ticksBetween(timing: Timing, from: number, to: number, max: number): number[] {
  // Searches backwards in growing steps, so that a long outage costs no more than a short one.
  let backMs = 'everyMs' in timing ? timing.everyMs * max : HOUR_MS
  for (;;) {
    const start = Math.max(from, to - backMs)
    const ticks: number[] = []
    for (let at = nextTick(timing, start - 1); at !== null && at <= to; at = nextTick(timing, at)) ticks.push(at)
    if (start === from || ticks.length >= max) return ticks.slice(-max)
    backMs *= 4
  }
}

/** Up to `count` ticks after `after`. */
export function upcoming(timing: Timing, after: number, count: number): number[] {
  const ticks: number[] = []
  for (let at = nextTick(timing, after); at !== null && ticks.length < count; at = nextTick(timing, at)) ticks.push(at)
  return ticks
}

/** @throws XQueueError `invalid_request` with the invalid field or similar time zones */
export function checkCron(cron: string, timezone: string): void {
  checkTimezone(timezone)
  const fields = cron.trim().split(/\s+/)
  if (fields.length !== FIELDS.length || cron.length > CRON_CHARS_MAX) {
    const names = FIELDS.map(({ name }) => name).join(', ')
    throw invalidField('cron', `"${cron.slice(0, 80)}" must have five fields (${names}), ${EXAMPLE}`)
  }
  for (const [index, { name, allowed }] of FIELDS.entries()) {
    const field = fields[index]!
    const alone = FIELDS.map((_, at) => (at === index ? field : '*')).join(' ')
    if (FIELD.test(field) && isCron(alone)) continue
    throw invalidField('cron', `"${cron}" has the invalid ${name} "${field}": use ${allowed}; ${EXAMPLE}`)
  }
  if (nextTick({ cron, timezone }, Date.now()) === null) {
    throw invalidField('cron', `"${cron}" never ticks: these months do not have this day`)
  }
}

/** @throws XQueueError `invalid_request` */
export function checkEvery(everyMs: number): void {
  if (everyMs >= EVERY_MS_MIN && everyMs <= TASK_LIMITS.durationMsMax) return
  throw invalidField('every', 'must be from 1 second to 366 days, such as "15m"')
}

/** @throws XQueueError `invalid_request` with similar names */
export function checkTimezone(timezone: string): void {
  if (/^[A-Za-z]/.test(timezone) && isTimezone(timezone)) return
  const near = nearest(timezone, Intl.supportedValuesOf('timeZone'))
  const remedy = near.length > 0 ? `did you mean ${near.join(' or ')}?` : 'use a name such as Europe/Berlin, or UTC'
  throw invalidField('timezone', `"${timezone.slice(0, 60)}" is not an IANA time zone: ${remedy}`)
}

function isTimezone(timezone: string): boolean {
  try {
    new Intl.DateTimeFormat('en', { timeZone: timezone })
    return true
  } catch {
    return false
  }
}

function isCron(pattern: string): boolean {
  try {
    new Cron(pattern, { mode: '5-part', paused: true })
    return true
  } catch {
    return false
  }
}

function cronOf({ cron, timezone }: { cron: string; timezone: string }): Cron {
  const name = `${timezone} ${cron}`
  let parsed = crons.get(name)
  if (!parsed) {
    if (crons.size >= CRONS_MAX) crons.clear()
    parsed = new Cron(spelledOut(cron), { mode: '5-part', timezone, paused: true, fixedTimeRule: 'no-wildcard' })
    crons.set(name, parsed)
  }
  return parsed
}

/** Croner treats only fields without `*` and step as local times; an hour with a step names local times as well. */
function spelledOut(cron: string): string {
  const [minute, hour, ...days] = cron.trim().split(/\s+/) as [string, string, ...string[]]
  if (hour === '*' || hour === '*/1') return [minute, '*', ...days].join(' ')
  return [listOf(minute, FIELDS[0].max), listOf(hour, FIELDS[1].max), ...days].join(' ')
}

function listOf(field: string, max: number): string {
  const values = field.split(',').flatMap((part) => {
    const [range = '*', step = '1'] = part.split('/')
    const [first = 0, last = first] = range === '*' ? [0, max] : range.split('-').map(Number)
    return Array.from({ length: Math.floor((last - first) / Number(step)) + 1 }, (_, at) => first + at * Number(step))
  })
  return [...new Set(values)].join(',')
}
