import type { Json } from './json.ts'
import type { Status } from './status.ts'

/**
 * What becomes of a task when one that it waits for ends without success: it is canceled too (and so are those that
 * wait for it), it runs all the same once all have ended, or it goes on waiting until that one, retried, succeeds.
 */
export const ON_FAILURE = ['cancel', 'run', 'wait'] as const
export type OnFailure = (typeof ON_FAILURE)[number]

/** A task that another one waited for, as it ended. */
export interface Predecessor {
  id: string
  type: string
  /** How it ended; null: retention had removed it before this was known. */
  status: Status | null
  result: Json
  error: string | null
  /**
   * Result and error are null here because all results together are too large for one answer: the context's
   * `predecessor(id)` reads them.
   */
  omitted?: true
}

/** How a task may end, for one that waits for it: it counts as ended, it is still waited for, or all is over. */
export type Effect = 'counts' | 'waits' | 'cancels'

export function effectOf(status: Status, onFailure: OnFailure): Effect {
  if (status === 'success' || onFailure === 'run') return 'counts'
  return onFailure === 'cancel' ? 'cancels' : 'waits'
}

/** The error of a task that is canceled because of one that it waited for. */
export function canceledBecause(id: string, status: Status): string {
  return `task ${id}, which it waits for, ended as ${status}`
}

/** The same for one that nobody can retry any more. */
export function canceledBecauseGone(id: string): string {
  return `task ${id}, which it waits for, ended without success and is no longer kept`
}

export interface BatchInfo {
  batch: string
  /** Tasks that were ever accepted with it. */
  total: number
  /** Those that are kept, by status. The others have ended, and retention has removed them. */
  counts: Record<Status, number>
}
