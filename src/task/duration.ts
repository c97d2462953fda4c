import { XQueueError } from './errors.ts'

export const DURATION_MS_MAX = 366 * 86_400_000

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }
const WHOLE = /^(?:\d{1,12}(?:\.\d{1,6})?(?:ms|s|m|h|d))+$/
const PART = /(\d{1,12}(?:\.\d{1,6})?)(ms|s|m|h|d)/g

/**
 * Reads a duration: a number of seconds, or a string with units such as `"90s"`, `"1h30m"`, `"250ms"`. A string of
 * digits alone counts as seconds. Returns whole milliseconds, and at least one if it is longer than none.
 *
 * @throws XQueueError `invalid_duration` if the value is not a duration, negative, or longer than 366 days.
 */
export function parseDurationMs(value: unknown): number {
  const ms = typeof value === 'number' ? value * 1_000 : typeof value === 'string' ? parseText(value) : Number.NaN
  if (!Number.isFinite(ms)) throw invalid(value, 'is not a duration')
  if (ms < 0) throw invalid(value, 'is negative')
  if (ms > DURATION_MS_MAX) throw invalid(value, 'is longer than 366 days')
  // Zero often means no limit, which a very short time must not become.
  return ms > 0 ? Math.max(1, Math.round(ms)) : 0
}

/** Formats a duration without loss in the shortest units: 5400000 → `1h30m`. */
export function formatDuration(ms: number): string {
  if (ms === 0) return '0s'
  let rest = ms
  let text = ''
  for (const unit of ['d', 'h', 'm', 's', 'ms']) {
    const size = UNIT_MS[unit] as number
    const count = Math.floor(rest / size)
    if (count > 0) text += `${count}${unit}`
    rest -= count * size
  }
  return text
}

function parseText(text: string): number {
  const trimmed = text.trim()
  if (/^\d{1,12}(?:\.\d{1,6})?$/.test(trimmed)) return Number(trimmed) * 1_000
  if (trimmed.length > 64 || !WHOLE.test(trimmed)) return Number.NaN
  let total = 0
  for (const [, count, unit] of trimmed.matchAll(PART)) total += Number(count) * (UNIT_MS[unit as string] as number)
  return total
}

function invalid(value: unknown, why: string): XQueueError {
  const shown = typeof value === 'string' ? JSON.stringify(value.slice(0, 80)) : String(value).slice(0, 80)
  return new XQueueError(
    'invalid_duration',
    `${shown} ${why}: use seconds as a number, or units such as "90s" or "1h30m"`,
  )
}
