import { type FieldError, shortPath } from './errors.ts'

/**
 * The units of named limits that a task uses while it runs, by the name of the limit. What is in use of a limit is the
 * sum over the tasks that run.
 */
export type Uses = Readonly<Record<string, number>>

export const NO_USES: Uses = Object.freeze({})

export const USES_LIMITS = { namesMax: 16, unitsMax: 1_000_000, nameCharsMax: 200 } as const

/**
 * Form of the name of a limit: 1 to 200 characters without control characters. `type:` and `group:` are the names of
 * the limits that every type and group has.
 */
export const LIMIT_NAME_PATTERN = /^(?!type:|group:|\.{1,2}$)\P{Cc}{1,200}$/u

/** Ends the name of a limit that applies to each key: `tenant/*` to `tenant/acme`, unless that has its own. */
const EACH_KEY = '/*'
/** Begins the name of the limit of one group of a type: `group:TYPE/GROUP`. */
const OF_GROUP = 'group:'
/** Separates the group and the names of limits in the name of a lane. Neither contains control characters. */
const SEPARATOR = '\u001f'

/** The ends of lanes; uses are never changed. */
const limitsByUses = new WeakMap<Uses, string>()

/** Whether a name is that of the limits of all keys. */
export function isOfEachKey(name: string): boolean {
  return name.endsWith(EACH_KEY) && name.indexOf('/') === name.length - EACH_KEY.length
}

export function nameOfGroupLimit(type: string, group: string): string {
  return `${OF_GROUP}${type}/${group}`
}

/** The type in the name of the limit of one group. */
export function typeOfGroupLimit(name: string): string {
  return name.slice(OF_GROUP.length, name.indexOf('/'))
}

export function isOfGroup(name: string): boolean {
  return name.startsWith(OF_GROUP)
}

/** Whether units are counted under a name: not for the settings of all keys, nor for a group, whose tasks count. */
export function hasUnits(name: string): boolean {
  return !isOfEachKey(name) && !isOfGroup(name)
}

/** The name of the settings for `tenant/acme` if it has none of its own: `tenant/*`. Null for a name without a key. */
export function familyOf(name: string): string | null {
  const end = name.indexOf('/')
  return end < 0 || isOfEachKey(name) ? null : name.slice(0, end) + EACH_KEY
}

/**
 * The lane of a task within its type and priority: tasks of one group that use the same limits. Lanes take turns. ''
 * for a task without both.
 */
export function laneOf(group: string | null, uses: Uses): string {
  if (uses === NO_USES) return group ?? ''
  let limits = limitsByUses.get(uses)
  if (limits === undefined) {
    limits = Object.keys(uses)
      .sort()
      .map((name) => SEPARATOR + name)
      .join('')
    limitsByUses.set(uses, limits)
  }
  return (group ?? '') + limits
}

/** The group of a lane, '' for none. */
export function groupOfLane(lane: string): string {
  const end = lane.indexOf(SEPARATOR)
  return end < 0 ? lane : lane.slice(0, end)
}

/** Whether the tasks of a lane use limits. */
export function usesLimits(lane: string): boolean {
  return lane.includes(SEPARATOR)
}

/** The names of the limits that the tasks of a lane use. */
export function limitsOfLane(lane: string): string[] {
  return lane.split(SEPARATOR).slice(1)
}

/** The first error of the units that an attempt has used in fact, or null. */
export function usageError(usage: unknown): FieldError | null {
  if (typeof usage !== 'object' || usage === null || Array.isArray(usage)) {
    return { path: 'usage', message: 'must be an object of limits and units, such as {"tokens": 900}' }
  }
  const { namesMax, unitsMax } = USES_LIMITS
  const entries = Object.entries(usage)
  if (entries.length > namesMax) return { path: 'usage', message: `has more than ${namesMax} limits` }
  const wrong = entries.find(([, units]) => !(Number.isInteger(units) && units >= 0 && units <= unitsMax))
  if (!wrong) return null
  const [name, units] = wrong
  const path = shortPath(`usage.${name}`)
  return { path, message: `is ${JSON.stringify(units)}: it must be an integer from 0 to ${unitsMax}` }
}

/** The first limit of which a task needs more units than its maximum, so that it could never start; or null. */
export function unitsAboveMax(
  uses: Uses,
  limits: Readonly<Record<string, { max?: number | null } | null | undefined>>,
) {
  for (const [name, units] of Object.entries(uses)) {
    const max = limits[name]?.max
    if (max != null && units > max) return { name, units, max }
  }
  return null
}

/** The errors of uses from a request or a handler. */
export function usesErrors(uses: unknown, path: string): FieldError[] {
  if (typeof uses !== 'object' || uses === null || Array.isArray(uses)) {
    return [{ path, message: 'must be an object of limits and units, such as {"gpu": 1}' }]
  }
  const entries = Object.entries(uses)
  const { namesMax, unitsMax } = USES_LIMITS
  if (entries.length > namesMax) {
    return [{ path, message: `has ${entries.length} limits, the maximum is ${namesMax}` }]
  }
  return entries.flatMap(([name, units]): FieldError[] => {
    const at = shortPath(`${path}.${name}`)
    if (!LIMIT_NAME_PATTERN.test(name) || !name.isWellFormed() || isOfEachKey(name)) {
      const form = '1 to 200 characters without control characters, no . or .., not beginning with type: or group:'
      return [{ path: at, message: `is not the name of a limit that a task can use: use ${form}, and a key for *` }]
    }
    if (Number.isInteger(units) && units >= 1 && units <= unitsMax) return []
    return [{ path: at, message: `is ${JSON.stringify(units)}: it must be an integer from 1 to ${unitsMax}` }]
  })
}
