const EDITS_MAX = 2
const NEAREST_MAX = 3

/**
 * The names that were probably meant by a misspelled one, best first: those within two edits, ignoring case. Of a path
 * such as `Europe/Berlin`, the last part alone is enough.
 */
export function nearest(written: string, names: readonly string[]): string[] {
  const wanted = [written, lastPart(written)].map((text) => text.toLowerCase())
  return names
    .map((name) => {
      const parts = [name, lastPart(name)].map((text) => text.toLowerCase())
      return { name, edits: Math.min(distance(wanted[0]!, parts[0]!), distance(wanted[1]!, parts[1]!)) }
    })
    .filter(({ edits }) => edits <= EDITS_MAX && edits < written.length / 2)
    .sort((a, b) => a.edits - b.edits)
    .slice(0, NEAREST_MAX)
    .map(({ name }) => name)
}

function lastPart(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1)
}

/** Edits between two words (Levenshtein). */
function distance(a: string, b: string): number {
  // Long names are not compared letter by letter.
  if (Math.abs(a.length - b.length) > EDITS_MAX) return Number.POSITIVE_INFINITY
  let row = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const swap = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, swap))
    }
    row = next
  }
  return row[b.length]!
}
