import type { Changed, ChangeOutcome, Which } from '../store.ts'
import type { Queries } from './queries.ts'
import { publicStatus, stateOf, type TaskState } from './rows.ts'
import type { Tx } from './writer.ts'

/** The maximum number of tasks that a bulk cancel or retry changes in one step. */
const BULK_MAX = 1_000

/** Cancels or retries tasks by their ids, or those that match a filter. @param from stored statuses that may change */
export function changeThese(
  tx: Tx,
  queries: Queries,
  which: Which,
  from: readonly string[],
  change: (tx: Tx, state: TaskState) => ChangeOutcome,
): Changed {
  const ids = 'ids' in which ? which.ids : matching(queries, which, from)
  const outcomes = new Map<string, ChangeOutcome>()
  for (const values of tx.database.arrays('statesById', JSON.stringify(ids))) {
    const state = stateOf(values)
    outcomes.set(state.id, change(tx, state))
  }
  // By filter there may be many tasks, and the caller does not need their payloads.
  const results = resultsOf(queries, ids, outcomes, 'filter' in which)
  const isAll = 'ids' in which || ids.length < BULK_MAX
  return { results, next: isAll ? null : (which.before ?? tx.now) }
}

export function resultsOf(
  queries: Queries,
  ids: readonly string[],
  outcomes: ReadonlyMap<string, ChangeOutcome>,
  bare: boolean,
): Changed['results'] {
  const tasks = queries.get(ids, { bare })
  return ids.map((id, index) => ({ id, outcome: outcomes.get(id) ?? 'unknown', task: tasks[index]! }))
}

function matching(queries: Queries, which: Exclude<Which, { ids: unknown }>, from: readonly string[]): string[] {
  const { filter, before = Number.MAX_SAFE_INTEGER } = which
  const { status } = filter
  const statuses = status === undefined ? from : from.filter((stored) => publicStatus(stored) === status)
  return queries.matching(filter, statuses, before, BULK_MAX)
}
