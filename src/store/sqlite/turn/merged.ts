import type { Row } from '../database/database.ts'

/** The tasks that run next over several types, each of which keeps its own order. */
export function merged(lists: readonly Row[][], want: number): Row[] {
  const next: Row[] = []
  const at = lists.map(() => 0)
  while (next.length < want) {
    let first = -1
    lists.forEach((list, index) => {
      const row = list[at[index]!]
      if (row && (first < 0 || byTurn(row, lists[first]![at[first]!]!) < 0)) first = index
    })
    if (first < 0) break
    next.push(lists[first]![at[first]!]!)
    at[first]! += 1
  }
  return next
}

function byTurn(a: Row, b: Row): number {
  for (const [key, sign] of [
    ['priority', -1],
    ['run_at', 1],
    ['seq', 1],
  ] as const) {
    const order = (a[key] as number) - (b[key] as number)
    if (order !== 0) return order * sign
  }
  return 0
}
