import type { AttemptJson } from '../task/attempt.ts'
import { isRunAgain } from '../task/run-again.ts'
import { foldedStack } from '../task/stack.ts'
import { dimmed, durationText, paint, plain, plainLines, timeText } from './terminal.ts'

/** The answer of `GET /tasks/:id/attempts`. */
export interface Attempts {
  attempts: AttemptJson[]
  left_out: number
}

const STYLES = { success: 'green', running: 'blue', canceled: 'gray', released: 'gray', held: 'yellow' } as const

/**
 * One line for each attempt, with its error below. Nothing for a task with a single attempt: its page says the same.
 *
 * @param withErrors whole errors, not only their first lines
 * @param shown an error that the page has already shown
 */
export function attemptLines(
  answer: Attempts | null,
  { withErrors = false, shown = null }: { withErrors?: boolean; shown?: string | null } = {},
): string[] {
  if (!answer || answer.attempts.length + answer.left_out < 2) return []
  const older = answer.left_out === 0 ? [] : [dimmed(`${answer.left_out} older ones are no longer kept`)]
  const lines = answer.attempts.flatMap((attempt, at) => [
    ...(isRunAgain(attempt, answer.attempts[at - 1]) ? [dimmed('run again')] : []),
    ...linesOf(attempt, withErrors, shown),
  ])
  return [...older, ...lines]
}

function linesOf(attempt: AttemptJson, withErrors: boolean, shown: string | null): string[] {
  const { number, outcome, worker_id, started_at, ended_at, error } = attempt
  const style = outcome in STYLES ? STYLES[outcome as keyof typeof STYLES] : 'red'
  const ran = ended_at === null ? '' : `, ran ${durationText(Date.parse(ended_at) - Date.parse(started_at))}`
  const times = dimmed(`${timeText(started_at)}${ran}, ${plain(worker_id ?? '–')}`)
  const head = `#${number} ${paint(style, outcome)} ${times}`
  if (error === null) return [head]
  const isShort = !withErrors || error === shown
  const text = isShort ? plain(error.split('\n')[0]!) : plainLines(foldedStack(error.trimEnd()))
  return [head, text.replace(/^/gm, '   ')]
}
