/**
 * Removes the contents of erased tasks from stored events. Events of other tasks in the same entry keep their exact
 * text: they are extracted from the JSON as text, not parsed and written again.
 */

/** Returns the texts of the elements of a JSON array, in order. */
export function elementsOf(array: string): string[] {
  const elements: string[] = []
  let [depth, from, inString] = [0, 1, false]
  for (let at = 0; at < array.length; at++) {
    const char = array[at]
    if (inString) {
      if (char === '\\') at += 1
      else if (char === '"') inString = false
    } else if (char === '"') inString = true
    else if (char === '[' || char === '{') depth += 1
    else if (char === ']' || char === '}') depth -= 1
    if (depth > 1 || inString || (depth === 1 && char !== ',') || (depth === 0 && char !== ']')) continue
    const element = array.slice(from, at).trim()
    if (element !== '') elements.push(element)
    from = at + 1
  }
  return elements
}

/**
 * Returns an outbox entry without the contents of one task. @param erase returns an event of that task without its
 * contents
 */
export function withoutContents(body: string, name: string, erase: (fields: string[]) => string[]): string {
  const events = elementsOf(body).map((event) =>
    event.includes(name) ? `[${erase(elementsOf(event)).join(',')}]` : event,
  )
  return `[${events.join(',')}]`
}

/** The second field of an event, a text. */
const SECOND = /^\[\s*"[^"]*"\s*,\s*("[^"]*")/

/** Returns an outbox entry whose events of these tasks, which the second field names, have null at these positions. */
export function withoutContentsOf(body: string, names: ReadonlySet<string>, places: readonly number[]): string {
  let isChanged = false
  const events = elementsOf(body).map((event) => {
    const name = SECOND.exec(event)?.[1]
    if (name === undefined || !names.has(name)) return event
    isChanged = true
    return `[${blanked(elementsOf(event), places).join(',')}]`
  })
  return isChanged ? `[${events.join(',')}]` : body
}

/** Returns the fields with null at these positions. */
export function blanked(fields: readonly string[], places: readonly number[]): string[] {
  return fields.map((field, place) => (places.includes(place) ? 'null' : field))
}
