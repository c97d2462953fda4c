const DELAY_MS_MAX = 86_400_000
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']
const SECONDS = /^\d+(?:\.\d*)?$|^\.\d+$/
/** The three forms of an HTTP date (RFC 9110, 5.6.7), all in GMT, and ISO 8601, which some servers send. */
const IMF = /^[A-Za-z]{3}, (?<day>\d{1,2}) (?<month>[A-Za-z]{3}) (?<year>\d{4}) (?<time>\d\d:\d\d:\d\d) (?:GMT|UTC)$/
const RFC_850 = /^[A-Za-z]{6,9}, (?<day>\d\d)-(?<month>[A-Za-z]{3})-(?<year>\d\d) (?<time>\d\d:\d\d:\d\d) GMT$/
const ASCTIME = /^[A-Za-z]{3} (?<month>[A-Za-z]{3}) +(?<day>\d{1,2}) (?<time>\d\d:\d\d:\d\d) (?<year>\d{4})$/
const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)$/

type Header = string | readonly string[] | undefined

/**
 * What Retry-After asks for: seconds, with a fraction or without, or a date, as milliseconds from now, at most a day.
 * Null when it says nothing that can be read.
 */
export function retryAfterMs(header: Header, now: number): number | null {
  const asked = askedMs(header, now)
  return asked === null ? null : Math.min(Math.max(Math.ceil(asked), 0), DELAY_MS_MAX)
}

/** What was made of the header, for the log; null where there is none. */
export function retryAfterNote(header: Header, now: number): string | null {
  if (header === undefined) return null
  const asked = askedMs(header, now)
  if (asked === null) return 'Retry-After is not valid: the back-off of the type applies'
  if (asked > DELAY_MS_MAX) return 'Retry-After is longer than a day: the next attempt starts after a day'
  return asked < 0
    ? 'Retry-After is in the past: the next attempt starts at once'
    : 'the next attempt starts after Retry-After'
}

/** As it says, also less than 0 or Infinity. Of several headers the first counts. */
function askedMs(header: Header, now: number): number | null {
  const text = (typeof header === 'object' ? header[0] : header)?.trim() ?? ''
  if (SECONDS.test(text)) return Number(text) * 1_000
  const at = ISO.test(text) ? Date.parse(text) : httpDate(text, now)
  return Number.isNaN(at) ? null : at - now
}

/** Milliseconds since the epoch, or NaN. */
function httpDate(text: string, now: number): number {
  const fields = (IMF.exec(text) ?? RFC_850.exec(text) ?? ASCTIME.exec(text))?.groups
  if (!fields) return Number.NaN
  const { day, month, year, time } = fields as Record<'day' | 'month' | 'year' | 'time', string>
  const [hours, minutes, seconds] = time.split(':').map(Number) as [number, number, number]
  const at = (years: number) => Date.UTC(years, MONTHS.indexOf(month), Number(day), hours, minutes, seconds)
  if (!MONTHS.includes(month)) return Number.NaN
  if (year.length === 4) return at(Number(year))
  // Two digits that seem to be more than 50 years ahead are of the century before (RFC 9110).
  const thisYear = new Date(now).getUTCFullYear()
  const years = thisYear - (thisYear % 100) + Number(year)
  return at(years > thisYear + 50 ? years - 100 : years)
}
