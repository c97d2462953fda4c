import { XQueueError } from '../../task/errors.ts'

/** Why the reader of a partition does not move on: since when (ms, monotonic), at which offset, and what failed. */
export interface Trouble {
  offset: bigint
  since: number
  because: string
}

/** @param before the trouble that it had already: it lasts as long as the offset stays the same */
export function troubleAt(offset: bigint, error: unknown, before: Trouble | null): Trouble {
  const because = error instanceof XQueueError ? `${error.code}: ${error.message}` : String(error)
  const since = before?.offset === offset ? before.since : performance.now()
  return { offset, since, because }
}
