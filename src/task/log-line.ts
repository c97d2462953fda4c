import type { Json } from './json.ts'

/** Lines that a handler writes with its log, as they are kept with the task. */

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

export const LOG_LIMITS = {
  /** Bytes of one line; a longer message is cut, and its fields are left out. */
  lineBytesMax: 8 * 1024,
  /** The same for a line that was encrypted. */
  storedLineBytesMax: 16 * 1024,
  /** Lines of one task in one call of a worker. */
  linesMax: 1_000,
  /** Bytes of all lines of a task; the oldest go first. */
  bytesMax: 256 * 1024,
} as const

/** Lines of an attempt, as JSON texts, and the number of those before them that a worker has left out. */
export interface AttemptLog {
  lease: string
  lines: readonly string[]
  skipped?: number
}

/** A stored line: its number in the task, from 1, and the attempt that wrote it. */
export interface StoredLine {
  n: number
  delivery: number
  attempt: number
  text: string
}

/** Lines after a position, oldest first, and the number of lines of the task that are no longer kept. */
export interface StoredLog {
  lines: StoredLine[]
  leftOut: number
}

export interface LogLine extends Omit<StoredLine, 'text'> {
  /** RFC 3339. */
  time: string
  level: LogLevel
  /** Null where the caller may not see contents. */
  message: string | null
  fields: { [name: string]: Json } | null
}

/** The parts of a line that are contents. */
export type LogContents = Pick<LogLine, 'message' | 'fields'>

const CUT = '… (cut)'

/** The stored form of a line. `fields` is the JSON of an object, or '' for none. */
export function logText(time: number, level: LogLevel, message: string, fields: string): string {
  const head = `{"time":"${new Date(time).toISOString()}","level":"${level}","message":`
  const whole = `${head}${JSON.stringify(message.toWellFormed())}${fields === '' ? '' : `,"fields":${fields}`}}`
  if (bytesOf(whole) <= LOG_LIMITS.lineBytesMax) return whole
  // At most six bytes of JSON for each unit of a text.
  const room = Math.floor((LOG_LIMITS.lineBytesMax - 100) / 6)
  return `${head}${JSON.stringify(message.slice(0, room).toWellFormed() + CUT)}}`
}

export function logLineOf({ text, ...place }: StoredLine): LogLine {
  const { time, level, message, fields = null } = JSON.parse(text) as Omit<LogLine, keyof StoredLine>
  return { ...place, time, level, message, fields }
}

/** Whether a text can be stored as a line. */
export function isStorableLine(text: unknown): text is string {
  if (typeof text !== 'string' || !text.isWellFormed() || text.includes('\n')) return false
  return bytesOf(text) <= LOG_LIMITS.storedLineBytesMax
}

const encoder = new TextEncoder()
function bytesOf(text: string): number {
  return text.length * 3 <= LOG_LIMITS.lineBytesMax ? text.length : encoder.encode(text).length
}
