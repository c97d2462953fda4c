/** A text with others inserted at their places. */
export function withInserted(text: string, inserted: readonly (readonly [at: number, text: string])[]): string {
  return inserted
    .toSorted(([a], [b]) => b - a)
    .reduce((marked, [at, mark]) => marked.slice(0, at) + mark + marked.slice(at), text)
}
