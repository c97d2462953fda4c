import { useState } from 'preact/hooks'
import { say } from './words.ts'

/** The column by which a table is ordered. */
export interface Order<Column> {
  by: Column
  isDown: boolean
}

/** A second click on a column turns the order around. */
export function useOrder<Column extends string>(
  first: Column,
): [Order<Column>, (by: Column, isDownFirst: boolean) => void] {
  const [order, setOrder] = useState<Order<Column>>({ by: first, isDown: false })
  const sort = (by: Column, isDownFirst: boolean) =>
    setOrder({ by, isDown: order.by === by ? !order.isDown : isDownFirst })
  return [order, sort]
}

/** For the head of a column. */
export function ariaSort<Column>(
  { by, isDown }: Order<Column>,
  column: Column,
): 'ascending' | 'descending' | undefined {
  if (by !== column) return undefined
  return isDown ? 'descending' : 'ascending'
}

export function SortButton({ label, sort }: { label: string; sort: () => void }) {
  return (
    <button type="button" class="sort" onClick={sort}>
      {label}
    </button>
  )
}

interface FilterProps {
  value: string
  set: (value: string) => void
}

/** The field above a table whose rows it limits. */
export function FilterField({ value, set }: FilterProps) {
  return (
    <input
      type="search"
      class="search"
      value={value}
      placeholder={say('filter')}
      aria-label={say('filter')}
      onInput={({ currentTarget }) => set(currentTarget.value)}
    />
  )
}
