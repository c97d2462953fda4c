import { useRef } from 'preact/hooks'
import { live, type Row, updatedRow } from './live.ts'
import type { ListControl } from './virtual-list.tsx'

interface Held {
  rows: Row[]
  /** Tasks that are not shown yet. */
  newer: number
  /** Puts each task into its place again. */
  release: () => void
}

/**
 * Rows stay in their places while the list is pointed at, has the focus or is scrolled, so that nothing moves away under
 * the pointer. They still change, and rows of later pages follow.
 */
export function useHeldRows(all: Row[], control: { current: ListControl | null }): Held {
  const held = useRef<Row[]>([])
  const release = () => {
    held.current = []
  }
  const isHeld = control.current?.isInUse() === true && held.current.length > 0
  const ids = new Set(isHeld ? held.current.map(({ id }) => id) : [])
  const behind = isHeld ? all.findLastIndex(({ id }) => ids.has(id)) + 1 : 0
  const newer = isHeld ? all.slice(0, behind).filter(({ id }) => !ids.has(id)).length : 0
  held.current = isHeld ? [...latest(held.current, all), ...(behind > 0 ? all.slice(behind) : [])] : all
  return { rows: held.current, newer, release }
}

/** Also rows that the search no longer finds, such as tasks that have ended among the running ones. */
function latest(held: readonly Row[], all: readonly Row[]): Row[] {
  const found = new Map(all.map((row) => [row.id, row]))
  return held.map((row) => {
    const change = live.rows.get(row.id)
    return found.get(row.id) ?? (change && change.at >= row.at ? updatedRow(row, change) : row)
  })
}
