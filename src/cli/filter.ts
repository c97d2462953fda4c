import type { Command } from 'commander'
import { parseDurationMs } from '../task/duration.ts'
import { patternOf } from '../task/error-pattern.ts'
import { XQueueError } from '../task/errors.ts'
import { parseTime } from '../task/rfc3339.ts'
import type { Status } from '../task/status.ts'
import type { ClientOptions } from './output.ts'

export interface FilterOptions extends ClientOptions {
  status?: Status
  type?: string
  tag?: string
  group?: string
  batch?: string
  createdAfter?: string
  createdBefore?: string
  error?: string
  errorLike?: string
}

/** Options that select tasks. */
export function withFilter(command: Command): Command {
  return command
    .optionsGroup('Filter:')
    .option('--status <status>', 'select by status: pending, processing, success, failed, canceled, timeout')
    .option('--type <type>', 'select by task type')
    .option('--tag <key:value>', 'select by tag')
    .option('--group <group>', 'select by group')
    .option('--batch <name>', 'select by batch')
    .option('--created-after <time>', 'select tasks accepted since then: an age such as 2h, or an RFC 3339 time')
    .option('--created-before <time>', 'select tasks accepted before that: an age such as 30m, or an RFC 3339 time')
    .option('--error <text>', 'select by a part of the error; A to Z also match a to z')
    .option('--error-like <error>', 'select errors with the same first line, apart from numbers and ids')
    .optionsGroup('Options:')
}

/** The filter as the API names it. @throws XQueueError `invalid_config` */
export function filterOf(options: FilterOptions): Record<string, string> & { batch?: string } {
  const { status, type, tag, group, batch, createdAfter, createdBefore, error, errorLike } = options
  return {
    ...(status ? { status } : {}),
    ...(type ? { type } : {}),
    ...(tag ? { tag: tag.includes(':') ? tag : tag.replace('=', ':') } : {}),
    ...(group ? { group } : {}),
    ...(batch ? { batch } : {}),
    ...(createdAfter === undefined ? {} : { created_after: timeOf('--created-after', createdAfter) }),
    ...(createdBefore === undefined ? {} : { created_before: timeOf('--created-before', createdBefore) }),
    ...(error === undefined ? {} : { error }),
    ...(errorLike === undefined ? {} : { error_like: patternOf(errorLike) }),
  }
}

/** An age ends with a unit, so that a year is not read as seconds. */
function timeOf(option: string, text: string): string {
  if (parseTime(text) !== undefined) return text
  try {
    if (/[a-z]$/.test(text)) return new Date(Date.now() - parseDurationMs(text)).toISOString()
  } catch {
    // Reported below.
  }
  const message = `${option} "${text}" is not a time: use an age such as 2h or 30m, up to 366d, or 2030-01-31T12:00:00Z`
  throw new XQueueError('invalid_config', message)
}
