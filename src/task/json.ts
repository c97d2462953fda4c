/** Any value that JSON can carry. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json }

/** Readers in other languages stop at as many levels, and writing JSON runs out of stack at some thousands. */
const LEVELS_MAX = 128
export const TOO_DEEP = `is nested deeper than ${LEVELS_MAX} levels`

export function isTooDeep(value: unknown, levels = LEVELS_MAX): boolean {
  if (typeof value !== 'object' || value === null) return false
  if (levels === 0) return true
  const values: unknown[] = Array.isArray(value) ? value : Object.values(value)
  return values.some((inner) => isTooDeep(inner, levels - 1))
}

/** The same text for the same value, in whatever order its fields stand. */
export function canonical(value: Json): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`
  if (value === null || typeof value !== 'object') return JSON.stringify(value)
  const fields = Object.keys(value)
    .sort()
    .map((key) => `${JSON.stringify(key)}:${canonical(value[key] as Json)}`)
  return `{${fields.join(',')}}`
}
