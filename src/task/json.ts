import { hasBrand } from './brand.ts'
import { describeError } from './thrown.ts'

/** Any value that JSON can represent. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json }

/** Parsers in other languages stop at a similar depth, and writing JSON overflows the stack at some thousands. */
const LEVELS_MAX = 128
export const TOO_DEEP = `is nested deeper than ${LEVELS_MAX} levels`
/** The message for text with an unpaired surrogate. */
export const ILL_FORMED = 'contains an unpaired surrogate, which is not valid Unicode: cut text between characters'
const REMEDY = 'send it as a string'

/** An error in a value with its position: `path` such as `cards[2].number`, '' for the value itself. */
export interface JsonFault {
  path: string
  message: string
}

/**
 * The reason why JSON would not preserve a value: numbers and big integers without a JSON form, text that is not
 * Unicode, or too many levels. Null: none. Values that JSON omits (`undefined`, functions) are not errors.
 */
export function faultIn(value: unknown, levels = LEVELS_MAX): JsonFault | null {
  switch (typeof value) {
    case 'string':
      return value.isWellFormed() ? null : { path: '', message: ILL_FORMED }
    case 'number':
      return Number.isFinite(value)
        ? null
        : { path: '', message: `is ${value}, which JSON cannot represent: ${REMEDY}` }
    case 'bigint':
      return { path: '', message: `is a BigInt, which JSON cannot represent: ${REMEDY}` }
    case 'object':
      return value === null ? null : faultInside(value, levels)
    default:
      return null
  }
}

function faultInside(value: object, levels: number): JsonFault | null {
  if (levels === 0) return { path: '', message: TOO_DEEP }
  if (value instanceof ChangedNumber) return changedNumberIn(value)
  if (value instanceof Map || value instanceof Set) return { path: '', message: emptied(value) }
  if (Array.isArray(value)) {
    for (let index = 0; index < value.length; index++) {
      const fault = faultIn(value[index], levels - 1)
      if (fault) return under(`[${index}]`, fault)
    }
    return null
  }
  for (const key in value) {
    if (!Object.hasOwn(value, key)) continue
    if (!key.isWellFormed()) return { path: key.toWellFormed(), message: ILL_FORMED }
    const fault = faultIn((value as Record<string, unknown>)[key], levels - 1)
    if (fault) return under(key, fault)
  }
  return null
}

/** JSON silently writes these as `{}`. */
function emptied(value: Map<unknown, unknown> | Set<unknown>): string {
  return value instanceof Map
    ? 'is a Map, which JSON writes as {}: use Object.fromEntries(map)'
    : 'is a Set, which JSON writes as {}: use [...set]'
}

/** Finds a Map or Set that its JSON has lost. Values with `toJSON` are skipped. */
export function emptiedIn(value: unknown, text: string): JsonFault | null {
  return text.includes('{}') ? collectionIn(value, LEVELS_MAX) : null
}

function collectionIn(value: unknown, levels: number): JsonFault | null {
  if (typeof value !== 'object' || value === null || levels === 0) return null
  if ('toJSON' in value) return null
  if (value instanceof Map || value instanceof Set) return { path: '', message: emptied(value) }
  const isList = Array.isArray(value)
  for (const [key, inner] of Object.entries(value)) {
    const fault = collectionIn(inner, levels - 1)
    if (fault) return under(isList ? `[${key}]` : key, fault)
  }
  return null
}

/** Prefixes the path of a fault. An error about depth has no path, because the position does not help. */
function under(key: string, { path, message }: JsonFault): JsonFault {
  return message === TOO_DEEP ? { path: '', message } : { path: joined(key, path), message }
}

/** Joins two parts of a path. */
export function joined(path: string, inner: string): string {
  return path === '' || inner === '' || inner[0] === '[' ? path + inner : `${path}.${inner}`
}

const JSON_TEXT: unique symbol = Symbol.for('xqueue.JsonText')

/**
 * JSON that was written once and is kept as text, because its source value may change later. Copies of the package
 * recognize each other's instances.
 */
export class JsonText {
  readonly text: string

  constructor(text: string) {
    this.text = text
  }

  get [JSON_TEXT](): true {
    return true
  }
}

export function isJsonText(value: unknown): value is JsonText {
  return value instanceof JsonText || hasBrand(value, JSON_TEXT)
}

/** The JSON of a value, or the text if it was written before. */
export function textOf(value: Json | JsonText): string {
  return isJsonText(value) ? value.text : JSON.stringify(value)
}

/**
 * Writes a value as JSON once; unpaired surrogates become U+FFFD. Or returns the reason why this is not possible: no
 * JSON form, a cycle, or too many levels. Never throws.
 */
export function write(value: unknown): { written: JsonText } | { fault: JsonFault } {
  if (isJsonText(value)) return { written: value }
  try {
    const text = JSON.stringify(value) as string | undefined
    if (text === undefined) return { fault: { path: '', message: `is a ${typeof value}, which JSON cannot represent` } }
    if (isTooDeep(text)) return { fault: { path: '', message: TOO_DEEP } }
    const lost = emptiedIn(value, text)
    if (lost) return { fault: lost }
    return { written: new JsonText(text.includes('\\ud') ? text.replace(ESCAPES, repaired) : text) }
  } catch (error) {
    return { fault: unwritable(value, error) }
  }
}

const UNWRITABLE = 'cannot be written as JSON'

/** A fault of a whole value in words, with the place in it. */
export function unwritableText(what: string, { path, message }: JsonFault): string {
  if (message.startsWith(UNWRITABLE)) return `the ${what} ${message}`
  return `the ${what} ${UNWRITABLE}: ${joined(what, path)} ${message}`
}

function unwritable(value: unknown, error: unknown): JsonFault {
  if (error instanceof RangeError) return { path: '', message: TOO_DEEP }
  try {
    const fault = faultIn(value)
    if (fault && fault.message !== TOO_DEEP) return fault
  } catch {
    // A getter that throws here also threw when the value was written.
  }
  return { path: '', message: `${UNWRITABLE}: ${describeError(error).split('\n', 1)[0]}` }
}

/** JSON escapes only unpaired surrogates. */
const ESCAPES = /\\(?:u(d[89a-f][0-9a-f]{2})|.)/g
function repaired(match: string, surrogate: string | undefined): string {
  return surrogate === undefined ? match : '\uFFFD'
}

/** Whether JSON text is nested too deep. The text is checked, because its source value may change. */
export function isTooDeep(text: string): boolean {
  if (text.length <= LEVELS_MAX) return false
  let levels = 0
  for (let at = 0; at < text.length; at++) {
    const char = text.charCodeAt(at)
    if (char === QUOTE) at = endOfString(text, at)
    else if (char === BRACKET || char === BRACE) {
      levels += 1
      if (levels > LEVELS_MAX) return true
    } else if (char === BRACKET_END || char === BRACE_END) levels -= 1
  }
  return false
}
const [QUOTE, BACKSLASH, BRACKET, BRACKET_END, BRACE, BRACE_END] = [0x22, 0x5c, 0x5b, 0x5d, 0x7b, 0x7d]

/** Position of the quote that ends a JSON string. */
function endOfString(text: string, start: number): number {
  for (let at = text.indexOf('"', start + 1); ; at = text.indexOf('"', at + 1)) {
    if (at < 0) return text.length
    let backslashes = 0
    while (text.charCodeAt(at - 1 - backslashes) === BACKSLASH) backslashes += 1
    if (backslashes % 2 === 0) return at
  }
}

/** Many digits, or an exponent of three: only these can be numbers that JavaScript does not preserve. */
const MAY_CHANGE = /\d{16}|\d[eE][+-]?\d{3}/
const MAY_BE_ILL_FORMED = /\\u[dD][89a-fA-F]/
/** JavaScript, Go and others write longer integers with an exponent. */
const DIGITS_MAX = 21

/**
 * Finds values in JSON text that would not be preserved: an integer or an exponent beyond the range of a number
 * (9007199254740993, 1e400), and unpaired surrogates. Null: none. Invalid JSON has no fault here.
 *
 * @param strings false to check numbers only
 */
export function faultInText(text: string, { strings = true }: { strings?: boolean } = {}): JsonFault | null {
  const number = MAY_CHANGE.test(text) ? changedNumber(text) : null
  if (number || !strings || !MAY_BE_ILL_FORMED.test(text)) return number
  try {
    return faultIn(JSON.parse(text))
  } catch {
    return null
  }
}

/** Replaces a number that would lose digits; its JSON is the original text. */
class ChangedNumber {
  readonly source: string

  constructor(source: string) {
    this.source = source
  }

  toJSON(): unknown {
    return (JSON as unknown as { rawJSON: (text: string) => unknown }).rawJSON(this.source)
  }
}

/**
 * Parses JSON so that a number that would change becomes a fault (`faultIn`) at its position. In a batch, only the task
 * with this number is then refused.
 * @throws SyntaxError
 */
export function readMarked(text: string): unknown {
  if (!MAY_CHANGE.test(text)) return JSON.parse(text)
  const read = (_key: string, value: unknown, { source = '' }: { source?: string }) =>
    typeof value === 'number' && isChanged(value, source) ? new ChangedNumber(source) : value
  return (JSON.parse as (text: string, read: unknown) => unknown)(text, read)
}

function changedNumber(text: string): JsonFault | null {
  try {
    return changedNumberIn(readMarked(text))
  } catch (error) {
    // Parsing with a reviver overflows the stack earlier than parsing alone.
    return error instanceof RangeError ? { path: '', message: TOO_DEEP } : null
  }
}

/** The first number that `readMarked` has marked. */
export function changedNumberIn(value: unknown): JsonFault | null {
  if (typeof value !== 'object' || value === null) return null
  if (value instanceof ChangedNumber) {
    return { path: '', message: `is ${value.source.slice(0, 40)}, whose digits a number does not keep: ${REMEDY}` }
  }
  for (const [key, inner] of Object.entries(value)) {
    const fault = changedNumberIn(inner)
    if (fault) return under(Array.isArray(value) ? `[${key}]` : key, fault)
  }
  return null
}

/** The path of a field that could be taken for the prototype of its object; null: none within the allowed levels. */
export function prototypeFieldIn(value: unknown, levels = LEVELS_MAX): string | null {
  if (typeof value !== 'object' || value === null || levels === 0) return null
  for (const [key, inner] of Object.entries(value)) {
    if (key === '__proto__') return key
    if (key === 'constructor' && Object.hasOwn(Object(inner), 'prototype')) return 'constructor.prototype'
    const path = prototypeFieldIn(inner, levels - 1)
    if (path !== null) return joined(Array.isArray(value) ? `[${key}]` : key, path)
  }
  return null
}

function isChanged(value: number, source: string): boolean {
  if (!Number.isFinite(value)) return true
  if (value === 0) return /[1-9]/.test(source.split(/[eE]/, 1)[0]!)
  if (Number.isSafeInteger(value) || !/^-?\d+$/.test(source)) return false
  return source.length > DIGITS_MAX + 1 || BigInt(source) !== BigInt(writtenBack(value))
}

function writtenBack(value: number): string {
  const text = String(value)
  return text.includes('e') ? '0' : text
}

/** The same text for equal values, regardless of the order of fields. */
export function canonical(value: Json): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`
  if (value === null || typeof value !== 'object') return JSON.stringify(value)
  const fields = Object.keys(value)
    .sort()
    .map((key) => `${JSON.stringify(key)}:${canonical(value[key] as Json)}`)
  return `{${fields.join(',')}}`
}
