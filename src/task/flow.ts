import type { Json } from './json.ts'
import type { Status } from './status.ts'

/**
 * The failure policy of a task whose predecessor ends without success: cancel the task (and tasks that wait for it),
 * run it when all predecessors have ended, or wait until the predecessor has been retried and succeeds.
 */
export const ON_FAILURE = ['cancel', 'run', 'wait'] as const
export type OnFailure = (typeof ON_FAILURE)[number]

/** A task that another task waited for, with its final state. */
export interface Predecessor {
  id: string
  type: string
  /** Final status; null: retention deleted the task before the status was recorded. */
  status: Status | null
  result: Json
  error: string | null
  /**
   * Result and error are null here because all results together are too large for one answer: the context's
   * `predecessor(id)` reads them.
   */
  omitted?: true
}

/** Effect of a predecessor's end on a waiting task: satisfied, still waiting, or canceled. */
export type Effect = 'counts' | 'waits' | 'cancels'

export function effectOf(status: Status, onFailure: OnFailure): Effect {
  if (status === 'success' || onFailure === 'run') return 'counts'
  return onFailure === 'cancel' ? 'cancels' : 'waits'
}

/** The error of a task that is canceled because of a predecessor. */
export function canceledBecause(id: string, status: Status): string {
  return `task ${id}, which it waits for, ended as ${status}`
}

/** The same for a predecessor that can no longer be retried. */
export function canceledBecauseGone(id: string): string {
  return `task ${id}, which it waits for, ended without success and is no longer kept`
}

export interface BatchInfo {
  batch: string
  /** Tasks ever accepted in the batch. */
  total: number
  /** Stored tasks by status. The others have ended, and retention has deleted them. */
  counts: Record<Status, number>
}
