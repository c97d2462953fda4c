import type { TaskFilter } from '../queue/queue.ts'
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
