/** What tells runs of a task apart: see `TaskAttempt`. */
interface Numbered {
  number: number
  outcome: string
}

const UNCOUNTED = ['lost', 'released', 'held']

/** Whether an attempt is the first one after an explicit retry, with which the numbers begin again. */
export function isRunAgain({ number }: Numbered, before: Numbered | undefined): boolean {
  if (before === undefined) return false
  return number < before.number || (number === before.number && !UNCOUNTED.includes(before.outcome))
}
