import { useState } from 'preact/hooks'
import type { TypeInfo } from './api.ts'
import { errorsAddress, type Range, rangeTitle, useHistory } from './history.tsx'
import { useRowKeys } from './keyboard.tsx'
import { type Point, useLive } from './live.ts'
import { ariaSort, FilterField, SortButton, useOrder } from './order.tsx'
import { Meter, NoTypes, Panel, SPARKLINE_POINTS, Sparkline, Times } from './parts.tsx'
import { typeAddress } from './task-search.ts'
import { VirtualList } from './virtual-list.tsx'
import { number, say, time, type Word } from './words.ts'

/** Conditions that the line of the queue's health counts, and that the table can be limited to. */
export const CONDITIONS = {
  paused: ({ paused, held_until }: TypeInfo) => paused || held_until !== null,
  noWorker: ({ workers, pending }: TypeInfo) => workers === 0 && pending > 0,
  atLimit: ({ max_concurrency: max, processing, pending }: TypeInfo) =>
    max !== null && processing >= max && pending > 0,
} as const
export type Condition = keyof typeof CONDITIONS

const ROW_PX = 44
const ROW_NARROW_PX = 96
/** Rows that are only scrolled past are not read. */
const ROW_READ_AFTER_MS = 150
const SHOWN_ROWS = 14

const COLUMNS: readonly [Column, number: boolean][] = [
  ['type', false],
  ['pending', true],
  ['processing', false],
  ['perSecond', true],
  ['wait', false],
  ['run', false],
  ['errors', true],
  ['trend', false],
  ['workers', true],
]
type Column = 'type' | 'pending' | 'processing' | 'perSecond' | 'wait' | 'run' | 'errors' | 'trend' | 'workers'

const VALUES: Partial<Record<Column, (type: TypeInfo) => number>> = {
  pending: ({ pending }) => pending,
  processing: ({ processing }) => processing,
  perSecond: ({ throughput }) => throughput,
  wait: ({ wait }) => wait?.p95 ?? -1,
  run: ({ run }) => run?.p95 ?? -1,
  workers: ({ workers }) => workers,
}

/** Where the word for a column is not that of the status. */
const HEADS: Partial<Record<Column, Word>> = { pending: 'waiting', processing: 'running' }

/** All types with their figures: those of the range, where they are of a time. */
export function TypeTable({ range, only }: { range: Range; only: Condition | null }) {
  const { types, stats } = useLive()
  const [filter, setFilter] = useState('')
  const [order, sort] = useOrder<Column>('type')
  const word = filter.toLowerCase()
  const found = types.filter((type) => type.type.toLowerCase().includes(word) && (!only || CONDITIONS[only](type)))
  const figure = VALUES[order.by]
  if (figure) found.sort((a, b) => figure(a) - figure(b))
  if (order.isDown) found.reverse()
  const control = useRowKeys(found.length)
  const aside = (
    <span class="terms">
      {only && (
        <a class="badge paused" href="#/overview" title={say('showAll')}>
          {say(only)} ×
        </a>
      )}
      <span class="dim">{say('of', number(found.length), number(types.length))}</span>
      <FilterField value={filter} set={setFilter} />
    </span>
  )
  if (stats && types.length === 0) {
    return (
      <Panel title={say('types')}>
        <NoTypes />
      </Panel>
    )
  }
  const isNarrow = matchMedia('(max-width: 720px)').matches
  const rowHeight = isNarrow ? ROW_NARROW_PX : ROW_PX
  return (
    <Panel title={say('types')} aside={aside} class="bare">
      <VirtualList
        class="types"
        control={control}
        height={Math.min(found.length, SHOWN_ROWS) * rowHeight + (isNarrow ? 0 : 37) || 120}
        empty={say('noneFound')}
        items={found}
        keyOf={({ type }) => type}
        rowHeight={rowHeight}
        label={say('types')}
        onOpen={({ type }) => {
          location.hash = typeAddress(type)
        }}
        head={COLUMNS.map(([column, isNumber]) => (
          <span
            key={column}
            role="columnheader"
            class={`col-${column} ${isNumber ? 'num' : ''}`}
            aria-sort={ariaSort(order, column)}
          >
            {column === 'type' || VALUES[column] ? (
              <SortButton label={say(HEADS[column] ?? column)} sort={() => sort(column, column !== 'type')} />
            ) : (
              <span title={column === 'errors' ? rangeTitle(range) : ''}>{say(column)}</span>
            )}
          </span>
        ))}
        row={(type) => <TypeRow info={type} range={range} />}
      />
    </Panel>
  )
}

function TypeRow({ info, range }: { info: TypeInfo; range: Range }) {
  const { history } = useLive()
  const { type, pending, processing, max_concurrency: limit, paused, held_until, throughput, wait, run, workers } = info
  const [kept] = useHistory(range, type, ROW_READ_AFTER_MS)
  const { errors, trend } = range === 'live' ? liveFigures(type, history) : keptFigures(kept?.slots ?? [])
  return (
    <>
      <span role="rowheader" class="col-type" title={type}>
        <a href={typeAddress(type)}>{type}</a>
        {paused && <span class="badge paused">{say('paused')}</span>}
        {held_until && <span class="badge paused">{say('heldUntil', time(held_until))}</span>}
      </span>
      <span role="cell" class="num col-pending" data-label={say('waiting')}>
        {number(pending)}
      </span>
      <span role="cell" class="col-processing" data-label={say('running')}>
        <span class="used">
          {limit !== null && <Meter value={processing} max={limit} label={`${type}: ${say('processing')}`} />}
          <span>{limit === null ? number(processing) : say('of', number(processing), number(limit))}</span>
        </span>
      </span>
      <span role="cell" class="num col-perSecond" data-label={say('perSecond')}>
        {number(throughput, 1)}
      </span>
      <span role="cell" class="col-wait">
        <Times of={wait} />
      </span>
      <span role="cell" class="col-run">
        <Times of={run} />
      </span>
      <span role="cell" class={`num col-errors ${errors > 0 ? 'bad' : ''}`} data-label={say('errors')}>
        {errors > 0 ? <a href={errorsAddress(range, type)}>{number(errors)}</a> : 0}
      </span>
      <span role="cell" class="col-trend">
        <Sparkline values={trend} label={`${type}: ${say('perSecond')}`} />
      </span>
      <span
        role="cell"
        class={`num col-workers ${workers === 0 && pending > 0 ? 'bad' : ''}`}
        data-label={say('workers')}
      >
        {number(workers)}
      </span>
    </>
  )
}

/** What this page has received since it was opened. */
function liveFigures(type: string, history: readonly Point[]) {
  const errors = history.reduce((sum, point) => sum + (point.types.get(type)?.failed ?? 0), 0)
  return { errors, trend: history.slice(-SPARKLINE_POINTS).map((point) => point.types.get(type)?.finished ?? 0) }
}

/** The slots in as many parts as the drawing has points. */
function keptFigures(slots: readonly { success: number; failed: number; timeout: number; errors: number }[]) {
  const errors = slots.reduce((sum, slot) => sum + slot.errors, 0)
  const size = Math.max(1, Math.ceil(slots.length / SPARKLINE_POINTS))
  const trend: number[] = []
  for (const [index, { success, failed, timeout }] of slots.entries()) {
    const part = Math.floor(index / size)
    trend[part] = (trend[part] ?? 0) + success + failed + timeout
  }
  return { errors, trend }
}
