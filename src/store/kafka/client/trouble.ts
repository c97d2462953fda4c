import { XQueueError } from '../../../task/errors.ts'

/** The reason why the reader of a partition does not advance: start (ms, monotonic), offset, and error. */
export interface Trouble {
  offset: bigint
  since: number
  because: string
}

/** @param before the earlier trouble: it continues as long as the offset stays the same */
export function troubleAt(offset: bigint, error: unknown, before: Trouble | null): Trouble {
  const because = error instanceof XQueueError ? `${error.code}: ${error.message}` : String(error)
  const since = before?.offset === offset ? before.since : performance.now()
  return { offset, since, because }
}
