import type { ComponentChildren } from 'preact'
import { useEffect, useRef, useState } from 'preact/hooks'

/** Rows beyond what is seen, above and below. */
const SPARE = 8

interface Props<T> {
  items: readonly T[]
  /** Every row has this height, in pixels. */
  rowHeight: number
  label: string
  /** Said where there is no row. */
  empty: string
  head: ComponentChildren
  row: (item: T, index: number) => ComponentChildren
  onEnd?: (() => void) | undefined
}

/** A list of which only the rows in sight are in the document, however long it is. */
export function VirtualList<T>({ items, rowHeight, label, empty, head, row, onEnd }: Props<T>) {
  const box = useRef<HTMLDivElement>(null)
  const [view, setView] = useState({ top: 0, height: 600 })
  useEffect(() => {
    const { current } = box
    const look = () => setView({ top: current!.scrollTop, height: current!.clientHeight })
    const resize = new ResizeObserver(look)
    resize.observe(current!)
    current!.addEventListener('scroll', look, { passive: true })
    return () => {
      resize.disconnect()
      current!.removeEventListener('scroll', look)
    }
  }, [])
  const first = Math.max(0, Math.floor(view.top / rowHeight) - SPARE)
  const last = Math.min(items.length, Math.ceil((view.top + view.height) / rowHeight) + SPARE)
  useEffect(() => {
    if (items.length > 0 && last === items.length) onEnd?.()
  }, [last, items.length])
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
    <div class="list" ref={box} role="table" aria-label={label} aria-rowcount={items.length + 1} tabIndex={0}>
      <div role="rowgroup" class="list-head">
        <div role="row" class="list-row">
          {head}
        </div>
      </div>
      {items.length === 0 && (
        <div role="row" class="empty">
          <span role="cell">{empty}</span>
        </div>
      )}
      <div role="rowgroup" class="list-body" style={{ height: `${items.length * rowHeight}px` }}>
        {items.slice(first, last).map((item, index) => (
          <div
            key={first + index}
            role="row"
            aria-rowindex={first + index + 2}
            class="list-row"
            style={{ transform: `translateY(${(first + index) * rowHeight}px)`, height: `${rowHeight}px` }}
          >
            {row(item, first + index)}
          </div>
        ))}
      </div>
    </div>
  )
}
