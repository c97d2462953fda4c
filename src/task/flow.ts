import type { Json } from './json.ts'
import type { FinalStatus, Status } from './status.ts'

/** Effect of a predecessor's end on a waiting task: satisfied, still waiting, or canceled. */
export type Effect = 'counts' | 'waits' | 'cancels'

interface FailurePolicy {
  /** What each end of a predecessor does to the task that waits for it. */
  effects: Readonly<Record<FinalStatus, Effect>>
  /** Completes "if one of these ends without success: …" in the API's schema and the CLI's help. */
  summary: string
  /** Its name in records on Redis, one lower-case letter. It never changes, because stored records have it. */
  letter: string
}

/**
 * The failure policies of tasks that wait for others (`on_failure`): the only place that decides. Stores look the
 * effects up; on Redis, the scripts get this table as a constant.
 */
export const FAILURE_POLICIES = {
  cancel: {
    effects: { success: 'counts', failed: 'cancels', canceled: 'cancels', timeout: 'cancels' },
    summary: 'cancel the task (default)',
    letter: 'c',
  },
  run: {
    effects: { success: 'counts', failed: 'counts', canceled: 'counts', timeout: 'counts' },
    summary: 'run it anyway',
    letter: 'r',
  },
  wait: {
    effects: { success: 'counts', failed: 'waits', canceled: 'waits', timeout: 'waits' },
    summary: 'wait for a retry',
    letter: 'w',
  },
} as const satisfies Record<string, FailurePolicy>
export type OnFailure = keyof typeof FAILURE_POLICIES
export const ON_FAILURE = Object.keys(FAILURE_POLICIES) as readonly OnFailure[]

/** The policies in one sentence. */
export const ON_FAILURE_SUMMARY = oneOf(Object.values(FAILURE_POLICIES).map(({ summary }) => summary))

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

export function effectOf(status: FinalStatus, onFailure: OnFailure): Effect {
  return FAILURE_POLICIES[onFailure].effects[status]
}

/** The error of a task that is canceled because of a predecessor. */
export function canceledBecause(id: string, status: Status): string {
  return `task ${id}, which it waits for, ended as ${status}`
}

/** The same for a predecessor that can no longer be retried. */
export function canceledBecauseGone(id: string): string {
  return `task ${id}, which it waits for, ended without success and is no longer kept`
}

const NAMED_IN_ERROR = /^task (\S+)(?=, which it waits for, ended )/

/** The predecessor that such an error names; null for other errors. */
export function predecessorIn(error: string | null): string | null {
  return NAMED_IN_ERROR.exec(error ?? '')?.[1] ?? null
}

/** The same error without the name of the predecessor. */
export function withoutPredecessor(error: string | null): string | null {
  return error === null ? null : error.replace(NAMED_IN_ERROR, 'a task')
}

export interface BatchInfo {
  batch: string
  /** Tasks ever accepted in the batch. */
  total: number
  /** Stored tasks by status. The others have ended, and retention has deleted them. */
  counts: Record<Status, number>
}

function oneOf(choices: readonly string[]): string {
  return `${choices.slice(0, -1).join(', ')}, or ${choices.at(-1)}`
}
