import { changedNumberIn, joined, write } from '../task/json.ts'
import { Type } from '../task/json-schema.ts'
import { type AttemptLog, LOG_LEVELS, LOG_LIMITS, type LogLevel, logText } from '../task/log-line.ts'
import { withoutTokens } from '../task/masking.ts'

/** Lines of a handler in calls of workers. */

const LogLineInput = Type.Object(
  {
    message: Type.String({ description: `A line of more than ${LOG_LIMITS.lineBytesMax} bytes is cut` }),
    level: Type.Optional({ enum: LOG_LEVELS, default: 'info' }),
    time: Type.Optional(Type.String({ format: 'date-time', description: 'Default: the time of the call' })),
    fields: Type.Optional({ type: 'object', description: 'Any JSON object' }),
  },
  { additionalProperties: false, title: 'LogLineInput' },
)

export const LogLines = Type.Array(LogLineInput, {
  maxItems: LOG_LIMITS.linesMax,
  description: 'Lines of the handler, oldest first, to keep with the task',
})

export const LeaseLog = Type.Object(
  {
    lease: Type.String({ maxLength: 200 }),
    lines: LogLines,
    skipped: Type.Optional(
      Type.Integer({ minimum: 0, maximum: 1e9, description: 'Number of lines before these that the worker left out' }),
    ),
  },
  { additionalProperties: false, title: 'LeaseLog' },
)

export interface LineInput {
  message: string
  level?: LogLevel
  time?: string
  fields?: object
}

export function logOf(lease: string, lines: readonly LineInput[], skipped = 0): AttemptLog {
  return { lease, lines: lines.map(lineOf), skipped }
}

/** Fields that cannot be stored are named in their place: a line is never refused. */
function lineOf({ message, level = 'info', time, fields }: LineInput): string {
  const at = time === undefined ? Number.NaN : Date.parse(time)
  return withoutTokens(logText(Number.isNaN(at) ? Date.now() : at, level, message, textOf(fields)))
}

function textOf(fields: object | undefined): string {
  if (fields === undefined) return ''
  const changed = changedNumberIn(fields)
  const written = changed ? { fault: changed } : write(fields)
  if ('written' in written) return written.written.text
  return JSON.stringify({ unreadable: `${joined('fields', written.fault.path)} ${written.fault.message}` })
}
