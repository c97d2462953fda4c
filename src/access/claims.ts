import { isScope, type Scope } from '../task/api-key.ts'
import { type Bounds, boundsOf } from '../task/bounds.ts'
import { notAccepted } from './principal.ts'

const SCOPE_PREFIX = 'xqueue:'

/**
 * The scopes from an identity provider's claims: those of each known role, and names of scopes, with or without the
 * prefix `xqueue:`.
 * @param path the claim with the roles (a list, or words separated by spaces); dots address nested objects
 */
export function scopesIn(claims: object, path: string, roles?: ReadonlyMap<string, readonly Scope[]>): Scope[] {
  const value = valueAt(claims, path)
  const names = Array.isArray(value) ? value.map(String) : String(value ?? '').split(' ')
  const scopes = names.flatMap((name) => {
    const known = roles?.get(name)
    if (known) return known
    const scope = name.startsWith(SCOPE_PREFIX) ? name.slice(SCOPE_PREFIX.length) : name
    return isScope(scope) ? [scope] : []
  })
  return [...new Set(scopes)]
}

/**
 * The bounds from claims: types and groups, as `--types` and `--groups` of a key.
 * @throws XQueueError `unauthorized`
 */
export function boundsIn(claims: object): Bounds | null {
  const list = (claim: string) => {
    const value = (claims as Record<string, unknown>)[claim]
    if (value === undefined || (Array.isArray(value) && value.every((name) => typeof name === 'string'))) return value
    throw notAccepted(`the token's claim "${claim}" must be a list of names`)
  }
  const [types, groups] = [list('xqueue_types'), list('xqueue_groups')]
  try {
    return boundsOf(types, groups)
  } catch (error) {
    throw notAccepted(`the token's claim xqueue_${(error as Error).message}`)
  }
}

/** A claim with the exact name takes precedence, because some providers use URLs with dots as names. */
function valueAt(claims: object, path: string): unknown {
  if (Object.hasOwn(claims, path)) return (claims as Record<string, unknown>)[path]
  let value: unknown = claims
  for (const step of path.split('.')) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, step)) return undefined
    value = (value as Record<string, unknown>)[step]
  }
  return value
}
