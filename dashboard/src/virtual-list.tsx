import type { ComponentChildren } from 'preact'
import { useEffect, useImperativeHandle, useLayoutEffect, useRef, useState } from 'preact/hooks'

/** Rows beyond what is seen, above and below. */
const SPARE = 8

export interface ListControl {
  /** Scrolls to a row, and puts the focus on its first link or button. */
  focus: (index: number) => void
  toTop: () => void
  /** Whether someone points at it, has the focus in it, or has scrolled it. */
  isInUse: () => boolean
}

interface Props<T> {
  items: readonly T[]
  /** Every row has this height, in pixels. */
  rowHeight: number
  label: string
  /** Said where there is no row. */
  empty: ComponentChildren
  head: ComponentChildren
  row: (item: T, index: number) => ComponentChildren
  keyOf: (item: T) => string
  class?: string
  /** In pixels; otherwise that of the style sheet. */
  height?: number
  rowClass?: (item: T) => string
  /** A click beside links and buttons. */
  onOpen?: (item: T) => void
  onEnd?: (() => void) | undefined
  /** The position at first, and each later one, so that a page that is shown again continues there. */
  top?: number
  onScroll?: (top: number) => void
  control?: { current: ListControl | null }
}

/** A list of which only the rows in sight are in the document, however long it is. */
export function VirtualList<T>(props: Props<T>) {
  const { items, rowHeight, label, empty, head, row, keyOf, onOpen, onEnd, top = 0, onScroll, control } = props
  const box = useRef<HTMLDivElement>(null)
  const focused = useRef(-1)
  const [view, setView] = useState({ top, height: 600 })
  useEffect(() => {
    const { current } = box
    const note = () => {
      setView({ top: current!.scrollTop, height: current!.clientHeight })
      onScroll?.(current!.scrollTop)
    }
    const resize = new ResizeObserver(note)
    current!.scrollTop = top
    resize.observe(current!)
    current!.addEventListener('scroll', note, { passive: true })
    return () => {
      resize.disconnect()
      current!.removeEventListener('scroll', note)
    }
  }, [])
  useImperativeHandle(control ?? null, () => ({
    focus: (index) => {
      const { current } = box
      const [start, end] = [index * rowHeight, (index + 1) * rowHeight]
      const headHeight = current!.firstElementChild!.clientHeight
      if (start < current!.scrollTop) current!.scrollTop = start
      else if (end > current!.scrollTop + current!.clientHeight - headHeight) {
        current!.scrollTop = end - current!.clientHeight + headHeight
      }
      focused.current = index
      setView({ top: current!.scrollTop, height: current!.clientHeight })
    },
    toTop: () => box.current?.scrollTo({ top: 0 }),
    isInUse: () => box.current !== null && (box.current.scrollTop > 0 || box.current.matches(':hover, :focus-within')),
  }))
  // The row may have been drawn only now. The next key finds the focus there.
  useLayoutEffect(() => {
    if (focused.current < 0) return
    const target = box.current!.querySelector<HTMLElement>(`[aria-rowindex="${focused.current + 2}"] a`)
    if (target) focused.current = -1
    target?.focus({ preventScroll: true })
  })
  const first = Math.max(0, Math.floor(view.top / rowHeight) - SPARE)
  const last = Math.min(items.length, Math.ceil((view.top + view.height) / rowHeight) + SPARE)
  useEffect(() => {
    if (items.length > 0 && last === items.length) onEnd?.()
  }, [last, items.length])
  const open = (event: MouseEvent, item: T) => {
    const isOther = (event.target as Element).closest('a, button, input, label')
    if (onOpen && !isOther && getSelection()?.isCollapsed !== false) onOpen(item)
  }
  return (
    <div
      class={`list ${props.class ?? ''}`}
      {...(props.height === undefined ? {} : { style: { height: `${props.height}px` } })}
      ref={box}
      role="table"
      aria-label={label}
      aria-rowcount={items.length + 1}
      // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
      tabIndex={0}
    >
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
          // The link in the row does the same by keyboard.
          // biome-ignore lint/a11y/useKeyWithClickEvents: see above
          <div
            key={keyOf(item)}
            role="row"
            aria-rowindex={first + index + 2}
            class={`list-row ${onOpen ? 'opens' : ''} ${props.rowClass?.(item) ?? ''}`}
            style={{ transform: `translateY(${(first + index) * rowHeight}px)`, height: `${rowHeight}px` }}
            onClick={(event) => open(event, item)}
          >
            {row(item, first + index)}
          </div>
        ))}
      </div>
    </div>
  )
}
