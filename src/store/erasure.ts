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
 * Returns an outbox entry without the contents of some events.
 * @param erase returns an event without its contents, or null for one that keeps them
 */
export function withoutContents(body: string, erase: (event: string) => string[] | null): string {
  let isChanged = false
  const events = elementsOf(body).map((event) => {
    const fields = erase(event)
    isChanged ||= fields !== null
    return fields === null ? event : `[${fields.join(',')}]`
  })
  return isChanged ? `[${events.join(',')}]` : body
}

/** Returns the fields with null at these positions. */
export function blanked(fields: readonly string[], places: readonly number[]): string[] {
  return fields.map((field, place) => (places.includes(place) ? 'null' : field))
}
