/** What errors of one cause have in common. Pure: the dashboard uses it too. */

const UUIDS = /\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b/gi
/** Hexadecimal ids with at least one digit, so that words of letters stay. */
const HEXES = /\b(?=[a-f]*\d)[0-9a-f]{8,}\b/gi
const NUMBERS = /\d+(?:[.,]\d+)*/g

/** Half of a surrogate pair, where a line was cut. */
const HALF_CHARACTER = /[\ud800-\udbff]$/

/** Characters of an error that count. */
export const ERROR_PATTERN_CHARS_MAX = 200

/** The first line of an error with `#` for numbers and `…` for ids. The pattern of a pattern is the same. */
export function patternOf(error: string): string {
  const [line = ''] = error.split('\n', 1)
  const part = line.slice(0, ERROR_PATTERN_CHARS_MAX).replace(HALF_CHARACTER, '')
  return part.replace(UUIDS, '…').replace(HEXES, '…').replace(NUMBERS, '#').trim()
}

/** The longest text that all errors with a pattern contain; it may be empty. */
export function textOfAll(pattern: string): string {
  const parts = pattern.split(/[#…]/).map((part) => part.trim())
  return parts.reduce((longest, part) => (part.length > longest.length ? part : longest))
}
