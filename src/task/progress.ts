import { isJsonText, type JsonText, joined, write } from './json.ts'
import { TASK_LIMITS } from './task.ts'

/** Progress as it is stored: a number, or an object that was written as JSON once; or why it is not. */
export type Reported = { progress: number | JsonText } | { ignored: string }

/**
 * Progress as a handler reports it: a number from 0 to 100 (one beyond is taken as the nearest), or an object of at
 * most 16 KiB as JSON. Never throws: to report progress is no reason for a task to fail.
 */
export function reportedProgress(value: unknown): Reported {
  if (typeof value === 'number') {
    return Number.isNaN(value) ? { ignored: 'it is NaN' } : { progress: Math.min(Math.max(value, 0), 100) }
  }
  if (!isJsonText(value) && !isObject(value)) return { ignored: 'it is neither a number nor an object' }
  const outcome = write(value)
  if ('fault' in outcome) return { ignored: `${joined('progress', outcome.fault.path)} ${outcome.fault.message}` }
  const { text } = outcome.written
  if (!text.startsWith('{')) return { ignored: 'it is neither a number nor an object' }
  const bytes = Buffer.byteLength(text)
  const { progressBytesMax } = TASK_LIMITS
  if (bytes > progressBytesMax) return { ignored: `it has ${bytes} bytes, the maximum is ${progressBytesMax}` }
  return { progress: outcome.written }
}

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
