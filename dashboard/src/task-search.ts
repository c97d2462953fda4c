import { ERROR_PATTERN_CHARS_MAX, patternOf } from '../../src/task/error-pattern.ts'
import { STATUSES } from './api.ts'

/** The search of the list of tasks: as one line that a user writes, as fields, and in the address of the page. */

/** `''` does not filter. The server searches; of `id` the page compares the rest. */
export interface Search {
  status: string
  type: string
  group: string
  tag: string
  batch: string
  /** An id as the list shows it: its start, `…` and its end. */
  id: string
  /** A part of the error. */
  error: string
  /** The pattern of an error, see `patternOf`. */
  pattern: string
  /** How old tasks may be, one of `RANGES_MS`. */
  range: string
  /** RFC 3339 */
  after: string
  before: string
}

export const EMPTY: Search = {
  ...{ status: '', type: '', group: '', tag: '', batch: '', id: '', error: '', pattern: '' },
  ...{ range: '', after: '', before: '' },
}

export const RANGES_MS: Readonly<Record<string, number>> = {
  '15m': 900_000,
  '1h': 3_600_000,
  '24h': 86_400_000,
  '7d': 604_800_000,
  '30d': 2_592_000_000,
}

/** The fields that are part of the line; a pattern is its rest, because it may contain anything. A status may be given. */
const KEYS = ['type', 'group', 'tag', 'batch', 'error'] as const
const FIELD = new RegExp(`(?:^|\\s)(status|${KEYS.join('|')}):(?:"([^"]*)"|(\\S+))`, 'g')
const ID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i
const SHORT_ID = /^([0-9a-f]{8}[0-9a-f-]*)(?:…|\.\.\.)([0-9a-f-]*)$/i

/** The last day whose year has four digits. */
const TIME_MAX = Date.UTC(9999, 11, 31)

type Times = 'range' | 'after' | 'before'

/**
 * `type:email group:"a b" tag:region:eu timed out`: the words are a part of the error. A line that is an id or the name
 * of a type means these.
 */
export function parseLine(line: string, types: readonly string[]): Omit<Search, Times> & { whole: string } {
  const found = { ...EMPTY, whole: '' }
  const [beside = '', pattern = ''] = line.split(/(?:^|\s)pattern:(.*)$/s)
  found.pattern = pattern.trim()
  const words = beside.replaceAll(FIELD, (_, key: 'type', quoted?: string, plain?: string) => {
    found[key] = quoted ?? plain ?? ''
    return ''
  })
  const text = words.trim().replace(/^"([^"]*)"$/, '$1')
  if (ID.test(text)) found.whole = text.toLowerCase()
  else if (types.includes(text)) found.type = text
  else if (SHORT_ID.test(text)) found.id = text.toLowerCase()
  else if (text !== '') found.error = text.slice(0, ERROR_PATTERN_CHARS_MAX)
  return found
}

export function lineOf(search: Search): string {
  const quote = (value: string) => (/\s/.test(value) ? `"${value}"` : value)
  const { error, id, pattern } = search
  const fields = KEYS.filter((key) => key !== 'error' && search[key] !== '')
  const parts = [...fields.map((key) => `${key}:${quote(search[key])}`), id, error, pattern && `pattern:${pattern}`]
  return parts.filter((part) => part !== '').join(' ')
}

export function searchOf(query: URLSearchParams): Search {
  const given = Object.keys(EMPTY).map((key) => [key, query.get(key) ?? ''])
  return Object.fromEntries(given) as Search
}

/** The search as the API names it. */
export function filterOf(search: Search, now = Date.now()): Record<string, string> {
  const { status, type, group, tag, batch, error, pattern } = search
  const { from, to } = timesOf(search, now)
  const filter = {
    ...{ status, type, group, tag, batch, error, error_like: pattern },
    created_after: from > 0 ? new Date(from).toISOString() : '',
    created_before: to < Number.POSITIVE_INFINITY ? new Date(to).toISOString() : '',
  }
  return Object.fromEntries(Object.entries(filter).filter(([, value]) => value !== ''))
}

/** The times of submission that a search takes, in milliseconds: `from` on, and before `to`. */
export function timesOf({ range, after, before, id }: Search, now = Date.now()): { from: number; to: number } {
  const length = RANGES_MS[range]
  let from = Math.max(length === undefined ? 0 : now - length, Date.parse(after) || 0)
  let to = Date.parse(before) || Number.POSITIVE_INFINITY
  const [, start] = SHORT_ID.exec(id) ?? []
  if (start) {
    // An id begins with the time: all of the times that begin so.
    const digits = start.replaceAll('-', '').slice(0, 12)
    from = Math.max(from, Math.min(Number.parseInt(digits.padEnd(12, '0'), 16), TIME_MAX))
    to = Math.max(Math.min(to, Number.parseInt(digits.padEnd(12, 'f'), 16) + 1, TIME_MAX), from)
  }
  return { from, to }
}

/** Whether the page must compare what the server has found. */
export function isOfPage({ id }: Search): boolean {
  return id !== ''
}

/** The parts of an address that cannot be read. A list without them would have too many tasks. */
export function unreadableOf(query: URLSearchParams): [name: string, text: string][] {
  const isTime = (text: string) => !Number.isNaN(Date.parse(text))
  const isKnown: Record<string, (text: string) => boolean> = {
    status: (text) => STATUSES.includes(text as (typeof STATUSES)[number]),
    range: (text) => Object.hasOwn(RANGES_MS, text),
    after: isTime,
    before: isTime,
    id: (text) => SHORT_ID.test(text),
    view: (text) => text === 'errors',
  }
  const isReadable = (name: string, text: string) =>
    text === '' || (Object.hasOwn(isKnown, name) ? isKnown[name]!(text) : Object.hasOwn(EMPTY, name))
  return [...query].filter(([name, text]) => !isReadable(name, text))
}

export function matcherOf({ id, pattern }: Search): (row: { id: string; told: string }) => boolean {
  const [, start = '', end = ''] = SHORT_ID.exec(id) ?? []
  const ofPattern = patternOf(pattern)
  return (row) =>
    (id === '' || (row.id.startsWith(start) && row.id.endsWith(end))) &&
    (pattern === '' || patternOf(row.told) === ofPattern)
}

export function addressOf(search: Partial<Search>, view = ''): string {
  const given = Object.entries({ ...search, view }).filter(([, value]) => value !== '')
  return given.length === 0 ? '#/tasks' : `#/tasks?${new URLSearchParams(given)}`
}

export function typeAddress(type: string): string {
  return `#/types/${encodeURIComponent(type)}`
}

/** An id is a UUIDv7, which begins with the time of submission. */
export function submittedAt(id: string): number {
  return Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16)
}
