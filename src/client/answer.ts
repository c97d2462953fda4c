/**
 * An answer of the API as the client returns it: names in camelCase, and times as dates. Values are not changed, so
 * records by type or by tag stay as they are.
 *
 * @param times the fields that are times, by their new names
 */
export function answerOf<T>(json: object, times: readonly (keyof T & string)[] = []): T {
  const named = Object.entries(json).map(([name, value]) => {
    const field = name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase())
    return [field, times.includes(field as never) && typeof value === 'string' ? new Date(value) : value]
  })
  return Object.fromEntries(named) as T
}
