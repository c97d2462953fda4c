/** What errors of one cause have in common. Pure: the dashboard uses it too. */

const UUIDS = /\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b/gi
/** Hexadecimal ids with at least one digit, so that words of letters stay. */
const HEXES = /\b(?=[a-f]*\d)[0-9a-f]{8,}\b/gi
/** Longer ids of letters and digits, `9s6XKzkNRiz8i3`. They have digits in two places, which names hardly have. */
const MIXED = /(?<![a-z0-9])(?=[a-z]*\d+[a-z]+\d)[a-z0-9]{12,}(?![a-z0-9])/gi
const NUMBER = /\d+(?:[.,]\d+)*/g
/** A word before a number that is a code: `status code 503`, `"errno":-104`, `HTTP/1.1 503`. */
const WORD = '(?:http|exit|error|status)?[ _]?(?:code|status)|http(?:/\\d(?:\\.\\d)?)?|errno|exit|signal'
const NUMBERS = new RegExp(`(\\b(?:${WORD})[ :=("']{1,3}-?)?(${NUMBER.source})`, 'gi')
/** Longer ones are ids. */
const CODE = /^\d{1,5}$/

/** Half of a surrogate pair, where a line was cut. */
const HALF_CHARACTER = /[\ud800-\udbff]$/

/** Characters of an error that count. */
export const ERROR_PATTERN_CHARS_MAX = 200

/** The first line of an error, with `#` for numbers except codes and `…` for ids. That of a pattern is the same. */
export function patternOf(error: string): string {
  const [line = ''] = error.split('\n', 1)
  const part = line.slice(0, ERROR_PATTERN_CHARS_MAX).replace(HALF_CHARACTER, '')
  return part.replace(UUIDS, '…').replace(HEXES, '…').replace(MIXED, '…').replace(NUMBERS, withoutNumber).trim()
}

/** Errors with different codes have different causes. */
function withoutNumber(text: string, word: string | undefined, number: string): string {
  return word !== undefined && CODE.test(number) ? text : text.replace(NUMBER, '#')
}

/** The longest text that all errors with a pattern contain; it may be empty. */
export function textOfAll(pattern: string): string {
  const parts = pattern.split(/[#…]/).map((part) => part.trim())
  return parts.reduce((longest, part) => (part.length > longest.length ? part : longest))
}
