import { type JsonText, joined, write } from './json.ts'
import { TASK_LIMITS } from './task.ts'

/** Progress as stored: a number, or an object as JSON text; or the reason why it is ignored. */
export type Reported = { progress: number | JsonText } | { ignored: string }

/**
 * Checks the progress of a handler: a number from 0 to 100 (others become the nearest bound), or an object of at most
 * 16 KiB as JSON. Never throws, because invalid progress must not fail a task.
 */
export function reportedProgress(value: unknown): Reported {
  if (typeof value === 'number') {
    return Number.isNaN(value) ? { ignored: 'it is NaN' } : { progress: Math.min(Math.max(value, 0), 100) }
  }
  const outcome = write(value)
  if ('fault' in outcome) return { ignored: `${joined('progress', outcome.fault.path)} ${outcome.fault.message}` }
  const { text } = outcome.written
  if (!text.startsWith('{')) return { ignored: 'it is neither a number nor an object' }
  const bytes = Buffer.byteLength(text)
  const { progressBytesMax } = TASK_LIMITS
  if (bytes > progressBytesMax) return { ignored: `it has ${bytes} bytes, the maximum is ${progressBytesMax}` }
  return { progress: outcome.written }
}
