import { XQueueError } from './errors.ts'
import { GROUP_PATTERN, TYPE_PATTERN } from './task.ts'

/** The part of the queue that a key can use. Null means no bound. */
export interface Bounds {
  /** Names of types, or prefixes that end in `*`, such as `report.*`. */
  types: readonly string[] | null
  groups: readonly string[] | null
}

export const BOUNDS_LIMITS = { types: 100, groups: 100 } as const

/** A task, event or permit that is inside or outside of bounds. */
export interface Placed {
  type: string
  group: string | null
}

export function allowsType({ types }: Bounds, type: string): boolean {
  if (types === null) return true
  return types.some((name) => (name.endsWith('*') ? type.startsWith(name.slice(0, -1)) : type === name))
}

export function allowsGroup({ groups }: Bounds, group: string | null): boolean {
  return groups === null || (group !== null && groups.includes(group))
}

export function allows(bounds: Bounds, { type, group }: Placed): boolean {
  return allowsType(bounds, type) && allowsGroup(bounds, group)
}

/** Equal bounds always give the same text. */
export function boundsText({ types, groups }: Bounds): string {
  const sorted = (names: readonly string[] | null) => names && [...new Set(names)].sort()
  return JSON.stringify([sorted(types), sorted(groups)])
}

/**
 * Bounds from lists of names; null if neither is given.
 * @throws XQueueError `invalid_config` with the list and the invalid name
 */
export function boundsOf(types: readonly string[] | undefined, groups: readonly string[] | undefined): Bounds | null {
  if (types === undefined && groups === undefined) return null
  const isType = (name: string) => TYPE_PATTERN.test(name.endsWith('*') ? name.slice(0, -1) : name)
  const checked = (of: 'types' | 'groups', names: readonly string[] | undefined, fits: (name: string) => boolean) => {
    if (names === undefined) return null
    const most = BOUNDS_LIMITS[of]
    if (names.length === 0 || names.length > most) {
      throw new XQueueError('invalid_config', `${of} has ${names.length} names: use 1 to ${most}`)
    }
    const wrong = names.find((name) => !fits(name))
    if (wrong === undefined) return [...new Set(names)]
    const form = of === 'types' ? 'a task type, or a prefix of one followed by *' : '1 to 128 characters'
    throw new XQueueError('invalid_config', `${of} has ${JSON.stringify(wrong)}: each name must be ${form}`)
  }
  return {
    types: checked('types', types, isType),
    groups: checked('groups', groups, (name) => GROUP_PATTERN.test(name)),
  }
}
