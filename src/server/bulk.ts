import type { Changed, ListQuery, Page, Queue, TaskFilter } from '../queue/queue.ts'
import { patternOf, textOfAll } from '../task/error-pattern.ts'
import { Type } from '../task/json-schema.ts'
import { pagesOf } from '../task/pages.ts'
import { CHANGEABLE_STATUSES, FINAL_STATUSES, type Status } from '../task/status.ts'
import { count as countOf } from './fields.ts'

/** Maximum count of a dry run, which reads each task without its payload. */
const DRY_RUN_MAX = 100_000
const PAGE = 1_000
const PURGEABLE = FINAL_STATUSES

/** `errorLike` is an error, or its pattern. Errors are compared here, as the caller may see them. */
export interface Wanted extends TaskFilter {
  errorLike?: string
}

export const ChangedSchema = Type.Object({ count: countOf('Number of changed tasks') }, { title: 'Changed' })

export const CountedSchema = Type.Object(
  {
    count: countOf('Number of matching tasks, at most 100,000'),
    more: Type.Boolean({ description: 'true: there are more matching tasks' }),
  },
  { title: 'Counted', description: 'A dry run: no task was changed' },
)

/** Changes all matching tasks, a bounded number at a time; returns their number. */
export async function changeAll(queue: Queue, change: 'cancel' | 'retry', filter: Wanted): Promise<number> {
  let count = 0
  if (filter.errorLike !== undefined) {
    for await (const { ids } of pages(queue, CHANGEABLE_STATUSES[change], filter)) {
      const { results } = await queue[change]({ ids })
      count += results.filter(({ outcome }) => outcome === 'changed' || outcome === 'stopping').length
    }
    return count
  }
  let before: Changed['next'] = null
  do {
    const { results, next }: Changed = await queue[change]({ filter, ...(before === null ? {} : { before }) })
    count += results.length
    before = next
  } while (before !== null)
  return count
}

/** Erases all matching tasks that have ended, a bounded number at a time; returns their number. */
export async function purgeAll(queue: Queue, filter: Wanted): Promise<number> {
  let count = 0
  for await (const { ids } of pages(queue, PURGEABLE, filter)) {
    const { results } = await queue.erase(ids)
    count += results.filter(({ outcome }) => outcome === 'changed').length
  }
  return count
}

/** Returns the number of tasks that the change would change; `more`: counting stopped at the maximum. */
export async function countAll(
  queue: Queue,
  change: 'cancel' | 'retry' | 'purge',
  filter: Wanted,
): Promise<{ count: number; more: boolean }> {
  let count = 0
  const statuses = change === 'purge' ? PURGEABLE : CHANGEABLE_STATUSES[change]
  for await (const { ids, isLast } of pages(queue, statuses, filter)) {
    count += ids.length
    if (count >= DRY_RUN_MAX) return { count: DRY_RUN_MAX, more: count > DRY_RUN_MAX || !isLast }
  }
  return { count, more: false }
}

/** The ids of matching tasks, status by status; `isLast`: no page of the status follows. */
async function* pages(queue: Queue, statuses: readonly Status[], filter: Wanted) {
  for (const status of statuses.filter((each) => filter.status === undefined || each === filter.status)) {
    const read = (at: { cursor?: string }) => pageOf(queue, { ...filter, status, limit: PAGE, bare: true, ...at })
    for await (const { tasks, nextCursor } of pagesOf(read)) {
      yield { ids: tasks.map(({ id }) => id), isLast: nextCursor === null }
    }
  }
}

/** A page of tasks. By `errorLike`, it may have fewer of them than the list has. */
export async function pageOf(queue: Queue, { errorLike, ...query }: Wanted & ListQuery): Promise<Page> {
  if (errorLike === undefined) return queue.list(query)
  const pattern = patternOf(errorLike)
  const error = query.error ?? textOfAll(pattern)
  const page = await queue.list({ ...query, ...(error === '' ? {} : { error }), bare: false })
  return { ...page, tasks: page.tasks.filter((task) => task.error !== null && patternOf(task.error) === pattern) }
}
