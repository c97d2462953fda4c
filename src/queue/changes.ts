import { CHANGES_MAX, type ChangeOutcome, type Store, type TaskChange, type TaskFilter } from '../store/store.ts'
import { CHANGEABLE_STATUSES } from '../task/status.ts'
import type { Task } from '../task/task.ts'

/** Changes of tasks by ids or by filter: their rules, their bounds and their answers, on every store. */

/** Task ids, or all tasks that match a filter, from the `next` of the previous answer on. */
export type Which = { ids: readonly string[] } | { filter: TaskFilter; before?: ChangePosition }

/**
 * Where a change by filter continues. Tasks that have changed since the first call are left out, because otherwise
 * tasks that fail as fast as they are retried would be retried for ever; so are the tasks that were refused and still
 * match.
 */
export interface ChangePosition {
  since: number
  refused: number
  /** Where the search of the store continues. */
  cursor?: string | null | undefined
  /** For a caller that changes by several filters, one after another: the filter that it has come to. */
  part?: string
}

export interface Changed {
  /** By ids: one per id. By filter: one per changed task. */
  results: ChangeResult[]
  /** By filter: the position to continue from; null: complete. */
  next: ChangePosition | null
}

export interface ChangeResult {
  id: string
  outcome: ChangeOutcome
  task: Task | null
}

export async function changeTasks(store: Store, change: 'cancel' | 'retry', which: Which): Promise<Changed> {
  if ('filter' in which) return changeMatching(store, change, which)
  return { results: await changeByIds(store, change, which.ids, false), next: null }
}

export async function eraseTasks(store: Store, ids: readonly string[]): Promise<Changed> {
  return { results: await changeByIds(store, 'erase', ids, true), next: null }
}

async function changeByIds(
  store: Store,
  change: TaskChange,
  ids: readonly string[],
  bare: boolean,
): Promise<ChangeResult[]> {
  const different = [...new Set(ids)]
  const results = new Map<string, ChangeResult>()
  for (let from = 0; from < different.length; from += CHANGES_MAX) {
    const some = different.slice(from, from + CHANGES_MAX)
    const outcomes = await store.change(change, some)
    const tasks = await store.get(some, { bare })
    some.forEach((id, index) => {
      results.set(id, { id, outcome: outcomes[index]!, task: tasks[index]! })
    })
  }
  return ids.map((id) => results.get(id)!)
}

async function changeMatching(
  store: Store,
  change: 'cancel' | 'retry',
  { filter: { status, ...filter }, before }: Extract<Which, { filter: unknown }>,
): Promise<Changed> {
  const { refused = 0, cursor } = before ?? {}
  const statuses = CHANGEABLE_STATUSES[change].filter((each) => status === undefined || each === status)
  const query = { filter, statuses, since: before?.since ?? null, skip: refused, max: CHANGES_MAX, cursor }
  const { ids, at, nextCursor } = await store.matching(query)
  // Without long parts: there may be many tasks, and the caller does not need their payloads.
  const results = await changeByIds(store, change, ids, true)
  const since = before?.since ?? at
  const stillMatch = results.filter(
    ({ outcome, task }) =>
      outcome === 'refused' &&
      task !== null &&
      statuses.some((each) => each === task.status) &&
      task.updatedAt <= since,
  )
  const isLast = nextCursor === undefined ? ids.length < CHANGES_MAX : nextCursor === null
  return {
    // Tasks that ended by themselves meanwhile were not changed.
    results: results.filter(({ outcome }) => outcome === 'changed' || outcome === 'stopping'),
    next: isLast ? null : { since, refused: refused + stillMatch.length, cursor: nextCursor },
  }
}
