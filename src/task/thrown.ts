/** Maximum length of a description; the causes of an error follow its own stack. */
export const DESCRIPTION_CHARS_MAX = 16_384
/** Causes of causes, and errors of an AggregateError, that are described. */
const DEPTH_MAX = 5
const ERRORS_MAX = 10
const UNKNOWN = 'a thrown value that cannot be described'

/**
 * The text of a thrown value: the stack of an error with its `cause` chain and the `errors` of an AggregateError, or
 * the value itself. Well-formed Unicode. Never throws, although the value may be a Proxy or an object whose getters
 * throw.
 */
export function describeError(thrown: unknown): string {
  const parts: string[] = []
  try {
    describe(thrown, '', parts, new Set(), DEPTH_MAX)
  } catch {
    // Returns the parts collected so far.
  }
  return parts.join('\n').slice(0, DESCRIPTION_CHARS_MAX).toWellFormed() || UNKNOWN
}

/** The same as an Error, for loggers and tracers that read fields without protection. */
export function errorOf(thrown: unknown, description = describeError(thrown)): Error {
  const message = messageOf(thrown).slice(0, DESCRIPTION_CHARS_MAX).toWellFormed()
  const { stackTraceLimit } = Error
  // A stack of its own would take longer than all the rest.
  Error.stackTraceLimit = 0
  const error = new Error(message)
  Error.stackTraceLimit = stackTraceLimit
  error.name = nameOf(thrown)
  error.stack = description
  return error
}

function describe(thrown: unknown, label: string, parts: string[], seen: Set<unknown>, depth: number): void {
  if (seen.has(thrown) || parts.reduce((sum, { length }) => sum + length, 0) > DESCRIPTION_CHARS_MAX) return
  if (!isErrorLike(thrown)) {
    parts.push(label + valueText(thrown))
    return
  }
  seen.add(thrown)
  parts.push(label + (textIn(thrown, 'stack') || headOf(thrown)))
  if (depth === 0) return
  const errors = read(thrown, 'errors')
  if (isArray(errors)) {
    for (let index = 0; index < Math.min(Number(read(errors, 'length')) || 0, ERRORS_MAX); index++) {
      describe(read(errors, String(index)), `[errors ${index}]: `, parts, seen, depth - 1)
    }
  }
  const cause = read(thrown, 'cause')
  if (cause !== undefined) describe(cause, '[cause]: ', parts, seen, depth - 1)
}

/** An error, also of another realm or library: something with a message or a stack. */
function isErrorLike(value: unknown): value is object {
  if (typeof value !== 'object' || value === null) return false
  return textIn(value, 'message') !== undefined || textIn(value, 'stack') !== undefined || isError(value)
}

function isError(value: object): boolean {
  try {
    return Object.prototype.toString.call(value) === '[object Error]'
  } catch {
    return false
  }
}

function headOf(error: object): string {
  const message = messageOf(error)
  return message === '' ? nameOf(error) : `${nameOf(error)}: ${message}`
}

function nameOf(thrown: unknown): string {
  const name = typeof thrown === 'object' && thrown !== null ? read(thrown, 'name') : undefined
  return (typeof name === 'symbol' ? String(name) : typeof name === 'string' ? name : '') || 'Error'
}

function messageOf(thrown: unknown): string {
  return isErrorLike(thrown) ? (textIn(thrown, 'message') ?? '') : valueText(thrown)
}

function valueText(value: unknown): string {
  try {
    return typeof value === 'string' ? value : (JSON.stringify(value) ?? String(value))
  } catch {
    return inspected(value)
  }
}

/**
 * Values that JSON cannot represent: big integers, cycles, and objects whose getters throw. `xqueue/client` contains
 * this file and runs in browsers too, so nothing of Node.js is imported.
 */
function inspected(value: unknown): string {
  try {
    const util = globalThis.process?.getBuiltinModule?.('node:util')
    if (!util) return String(value)
    return util.inspect(value, { customInspect: false, maxStringLength: DESCRIPTION_CHARS_MAX })
  } catch {
    return UNKNOWN
  }
}

function textIn(value: object, field: string): string | undefined {
  const text = read(value, field)
  return typeof text === 'string' ? text : undefined
}

function read(value: object, field: string): unknown {
  try {
    return (value as Record<string, unknown>)[field]
  } catch {
    return undefined
  }
}

function isArray(value: unknown): value is unknown[] {
  try {
    return Array.isArray(value)
  } catch {
    return false
  }
}
