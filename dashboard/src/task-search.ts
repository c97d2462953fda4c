/** The search of the list of tasks: as one line that a user writes, as fields, and in the address of the page. */

/** `''` does not filter. `q` and `error` are searched for in the tasks that the page has loaded, the rest by the server. */
export interface Search {
  status: string
  type: string
  group: string
  tag: string
  batch: string
  /** Words that the id, type, group, payload, result or error contains. */
  q: string
  /** The pattern of an error, see `patternOf`. */
  error: string
  /** How old tasks may be. */
  range: string
}

export const EMPTY: Search = { status: '', type: '', group: '', tag: '', batch: '', q: '', error: '', range: '' }

export const RANGES_MS: Readonly<Record<string, number>> = {
  '15m': 900_000,
  '1h': 3_600_000,
  '24h': 86_400_000,
  '7d': 604_800_000,
  '30d': 2_592_000_000,
}

/** The fields that are part of the line. */
const KEYS = ['type', 'group', 'tag', 'batch', 'error'] as const
const ID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

/** `type:email group:"a b" tag:region:eu timed out`. A line that is an id or the name of a type means these. */
export function parseLine(line: string, types: readonly string[]): Omit<Search, 'status' | 'range'> & { id: string } {
  const found = { ...EMPTY, id: '' }
  const words: string[] = []
  for (const [, key = '', quoted, plain, word] of line.matchAll(/(?:(\w+):)?(?:"([^"]*)"|([^\s"]+))|(\S)/g)) {
    const value = quoted ?? plain ?? word ?? ''
    if (KEYS.includes(key as 'type')) found[key as 'type'] = value
    else words.push(key === '' ? value : `${key}:${value}`)
  }
  const text = words.join(' ')
  if (ID.test(text)) return { ...found, id: text.toLowerCase() }
  if (types.includes(text)) return { ...found, type: text }
  return { ...found, q: text }
}

export function lineOf(search: Search): string {
  const quote = (value: string) => (/\s/.test(value) ? `"${value}"` : value)
  const parts = KEYS.filter((key) => search[key] !== '').map((key) => `${key}:${quote(search[key])}`)
  return [...parts, search.q].filter((part) => part !== '').join(' ')
}

export function searchOf(query: URLSearchParams): Search {
  const given = Object.keys(EMPTY).map((key) => [key, query.get(key) ?? ''])
  return Object.fromEntries(given) as Search
}

export function addressOf(search: Partial<Search>, view = ''): string {
  const given = Object.entries({ ...search, view }).filter(([, value]) => value !== '')
  return given.length === 0 ? '#/tasks' : `#/tasks?${new URLSearchParams(given)}`
}

export function typeAddress(type: string): string {
  return `#/types/${encodeURIComponent(type)}`
}

/** Earliest time of submission, in milliseconds. */
export function sinceOf({ range }: Pick<Search, 'range'>): number {
  const length = RANGES_MS[range]
  return length === undefined ? 0 : Date.now() - length
}

/** An id is a UUIDv7, which begins with the time of submission. */
export function submittedAt(id: string): number {
  return Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16)
}

const UUIDS = /\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b/gi
/** Hexadecimal ids with at least one digit, so that words of letters stay. */
const HEXES = /\b(?=[a-f]*\d)[0-9a-f]{8,}\b/gi
const NUMBERS = /\d+(?:[.,]\d+)*/g

/** The first line of an error without its numbers and ids: errors of one cause have one pattern. */
export function patternOf(error: string): string {
  const [line = ''] = error.split('\n', 1)
  // As long as the rows of the list keep of an error.
  return line.slice(0, 200).replace(UUIDS, '…').replace(HEXES, '…').replace(NUMBERS, '#').trim()
}
