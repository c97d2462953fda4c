import { Type } from 'typebox'
import type { Changed, Queue, TaskFilter } from '../queue/queue.ts'
import { CHANGEABLE_STATUSES } from '../task/status.ts'
import { count as countOf } from './fields.ts'

/** Maximum count of a dry run, which reads each task without its payload. */
const DRY_RUN_MAX = 100_000
const PAGE = 1_000

export const ChangedSchema = Type.Object({ count: countOf('Number of changed tasks') }, { title: 'Changed' })

export const CountedSchema = Type.Object(
  {
    count: countOf('Number of matching tasks, at most 100,000'),
    more: Type.Boolean({ description: 'true: there are more matching tasks' }),
  },
  { title: 'Counted', description: 'A dry run: no task was changed' },
)

/** Changes all matching tasks, a bounded number at a time; returns their number. */
export async function changeAll(queue: Queue, change: 'cancel' | 'retry', filter: TaskFilter): Promise<number> {
  let count = 0
  let before: Changed['next'] = null
  do {
    const { results, next }: Changed = await queue[change]({ filter, ...(before === null ? {} : { before }) })
    count += results.length
    before = next
  } while (before !== null)
  return count
}

/** Returns the number of tasks that `changeAll` would change; `more`: counting stopped at the maximum. */
export async function countAll(
  queue: Queue,
  change: 'cancel' | 'retry',
  filter: TaskFilter,
): Promise<{ count: number; more: boolean }> {
  let count = 0
  for (const status of CHANGEABLE_STATUSES[change].filter(
    (each) => filter.status === undefined || each === filter.status,
  )) {
    let cursor: string | null = null
    do {
      const page = await queue.list({
        ...filter,
        status,
        limit: PAGE,
        bare: true,
        ...(cursor === null ? {} : { cursor }),
      })
      count += page.tasks.length
      cursor = page.nextCursor
      if (count >= DRY_RUN_MAX) return { count: DRY_RUN_MAX, more: count > DRY_RUN_MAX || cursor !== null }
    } while (cursor !== null)
  }
  return { count, more: false }
}
