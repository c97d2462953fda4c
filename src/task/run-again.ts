/** What tells runs of a task apart: see `TaskAttempt`. */
interface Numbered {
  number: number
  outcome: string
}

/** Whether the end of a lease counts as an attempt. */
export function isCounted(outcome: string): boolean {
  return !['lost', 'released', 'held'].includes(outcome)
}

/** Whether an attempt is the first one after an explicit retry, with which the numbers begin again. */
export function isRunAgain({ number }: Numbered, before: Numbered | undefined): boolean {
  if (before === undefined) return false
  return number < before.number || (number === before.number && isCounted(before.outcome))
}
