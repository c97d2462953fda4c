import type { Logger } from 'pino'
import { joined, write } from '../task/json.ts'
import { type AttemptLog, LOG_LEVELS, LOG_LIMITS, type LogLevel, logText } from '../task/log-line.ts'
import { withoutTokens } from '../task/masking.ts'
import { describeError } from '../task/thrown.ts'
import type { After } from '../task/time.ts'

const EVERY_MS = 1_000
/** Unsent lines of one attempt. */
const ATTEMPT_BYTES_MAX = LOG_LIMITS.bytesMax
/** Lines of one turn, as long as no attempt has ended. */
const TURN_BYTES_MAX = 1024 * 1024
/** What lines of this level and above are kept, whatever the level of the process's own log is. */
const KEPT_FROM: LogLevel = 'info'

interface Unsent {
  lines: string[]
  bytes: number
  skipped: number
}

/**
 * A log whose lines go to the log of the process, as before, and to `keep`: those from `info` on, and others that the
 * process writes as well.
 */
export function keptLog(logger: Logger, keep: (text: string) => void, now: () => number, bound = {}): Logger {
  // Inherits all other methods of the logger.
  const kept = Object.create(logger) as Logger
  LOG_LEVELS.forEach((level, at) => {
    kept[level] = (...args: unknown[]) => {
      ;(logger[level] as (...args: unknown[]) => void)(...args)
      if (at >= LOG_LEVELS.indexOf(KEPT_FROM) || logger.isLevelEnabled(level)) keep(lineOf(now(), level, bound, args))
    }
  })
  const child = (fields: object, options?: object) =>
    keptLog(logger.child(fields, options), keep, now, { ...bound, ...fields })
  kept.child = child as never
  return kept
}

/** Lines that a worker has not sent yet, by lease. Those of one attempt are bounded: the oldest go first. */
export class UnsentLogs {
  readonly #logs = new Map<string, Unsent>()
  readonly #after: After
  readonly #due: () => void
  #isDue = false
  #callOff: (() => void) | undefined

  /** @param due called some time after a line was added or put back, unless all lines have been sent */
  constructor(after: After, due: () => void) {
    this.#after = after
    this.#due = due
  }

  add(lease: string, line: string): void {
    this.#put(lease, [line], 0)
  }

  /** The lines to send with a turn: those of the attempts that it reports, and those of all when they are due. */
  take(ended: readonly { lease: string }[]): AttemptLog[] {
    if (this.#logs.size === 0) return []
    const leases = new Set(ended.map(({ lease }) => lease))
    const taken: AttemptLog[] = []
    let bytes = 0
    for (const [lease, { bytes: own, ...log }] of this.#logs) {
      const goes = leases.has(lease) || (this.#isDue && bytes < TURN_BYTES_MAX)
      if (!goes) continue
      bytes += own
      this.#logs.delete(lease)
      taken.push({ lease, ...log })
    }
    // The next turn has the others.
    this.#isDue &&= bytes >= TURN_BYTES_MAX
    return taken
  }

  /** Puts back lines that could not be sent. */
  restore(logs: readonly AttemptLog[]): void {
    for (const { lease, lines, skipped = 0 } of logs) {
      const later = this.#logs.get(lease)
      this.#logs.delete(lease)
      this.#put(lease, [...lines, ...(later?.lines ?? [])], skipped + (later?.skipped ?? 0))
    }
  }

  forget(lease: string): void {
    this.#logs.delete(lease)
  }

  close(): void {
    this.#callOff?.()
  }

  #put(lease: string, lines: readonly string[], skipped: number): void {
    const log = this.#logs.get(lease) ?? { lines: [], bytes: 0, skipped }
    this.#logs.set(lease, log)
    for (const line of lines) {
      log.lines.push(line)
      log.bytes += line.length
    }
    while (log.lines.length > LOG_LIMITS.linesMax || (log.bytes > ATTEMPT_BYTES_MAX && log.lines.length > 1)) {
      log.bytes -= log.lines.shift()!.length
      log.skipped += 1
    }
    this.#callOff ??= this.#after(EVERY_MS, () => {
      this.#callOff = undefined
      if (this.#logs.size === 0) return
      this.#isDue = true
      this.#due()
    })
  }
}

/** Never throws: a handler may log anything. */
function lineOf(time: number, level: LogLevel, bound: object, args: readonly unknown[]): string {
  try {
    const { message, fields } = partsOf(bound, args)
    return withoutTokens(logText(time, level, message, fieldsText(fields)))
  } catch (error) {
    return withoutTokens(logText(time, level, '', JSON.stringify({ unreadable: describeError(error) })))
  }
}

function partsOf(bound: object, [first, second, ...rest]: readonly unknown[]): { message: string; fields: object } {
  const isText = typeof first !== 'object' || first === null
  const fields: { err?: unknown } = isText ? bound : { ...bound, ...(first instanceof Error ? { err: first } : first) }
  const [format, values] = isText ? [first, [second, ...rest]] : [second, rest]
  if (format !== undefined) return { message: filled(String(format), values), fields }
  return { message: fields.err instanceof Error ? fields.err.message : '', fields }
}

/** Replaces `%s`, `%d`, `%i`, `%f`, `%j`, `%o` and `%O` in order, as Pino does. */
function filled(format: string, values: unknown[]): string {
  let next = 0
  return format.replace(/%([sdifjoO%])/g, (whole, kind: string) => {
    if (kind === '%') return '%'
    if (next >= values.length || values[next] === undefined) return whole
    const value = values[next++]
    return typeof value === 'object' ? fieldsText({ value }).slice('{"value":'.length, -1) : String(value)
  })
}

/** The JSON of fields, '' for none; an error is its stack with its causes. */
function fieldsText(fields: object): string {
  const entries = Object.entries(fields)
  if (entries.length === 0) return ''
  const readable = entries.map(([name, value]): [string, unknown] => {
    return [name, value instanceof Error ? describeError(value) : typeof value === 'bigint' ? String(value) : value]
  })
  const outcome = write(Object.fromEntries(readable))
  if ('written' in outcome) return outcome.written.text
  const { path, message } = outcome.fault
  return JSON.stringify({ unreadable: `${joined('fields', path)} ${message}` })
}
