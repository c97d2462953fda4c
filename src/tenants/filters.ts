import type { Changed, ChangePosition, ChangeResult, Queue, TaskFilter } from '../queue/queue.ts'
import { allowsGroup, allowsType, type Bounds } from '../task/bounds.ts'
import type { TenantNames } from './names.ts'

/**
 * Filters that together fit what one fits within the bounds.
 *
 * @param typeNames the types within the bounds
 */
export function filtersWithin(
  bounds: Bounds,
  filter: TaskFilter,
  typeNames: readonly string[],
  names: TenantNames,
): TaskFilter[] {
  const ofTypes = filter.type !== undefined ? [filter.type] : bounds.types === null ? [undefined] : typeNames
  const ofGroups = filter.group !== undefined ? [filter.group] : (bounds.groups ?? [undefined])
  const batch = filter.batch === undefined ? {} : { batch: names.stored(filter.batch) }
  return ofTypes.flatMap((type) =>
    ofGroups.flatMap((group) => {
      if (type !== undefined && !allowsType(bounds, type)) return []
      if (group !== undefined && !allowsGroup(bounds, group)) return []
      const within = { ...(type === undefined ? {} : { type }), ...(group === undefined ? {} : { group }) }
      return [{ ...filter, ...batch, ...within }]
    }),
  )
}

/** Changes the tasks of several filters, one after another, until a page ends. */
export async function changeEach(
  queue: Queue,
  change: 'cancel' | 'retry',
  filters: readonly TaskFilter[],
  before?: ChangePosition,
): Promise<Changed> {
  const results: ChangeResult[] = []
  const parts = filters.map((filter) => ({ filter, part: JSON.stringify(filter) }))
  const first = Math.max(
    0,
    parts.findIndex(({ part }) => part === before?.part),
  )
  for (const { filter, part } of parts.slice(first)) {
    // Refused tasks are counted for the filter that they match, and a cursor is one of its search.
    const from = before && { before: part === before.part ? before : { since: before.since, refused: 0 } }
    const changed = await queue[change]({ filter, ...from })
    results.push(...changed.results)
    if (changed.next !== null) return { results, next: { ...changed.next, part } }
  }
  return { results, next: null }
}
