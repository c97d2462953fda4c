import type { ComponentChildren } from 'preact'
import { useEffect, useRef, useState } from 'preact/hooks'
import { get, type Task, TERMINAL } from './api.ts'
import { useHeldRows } from './held-rows.ts'
import { Age, age, CopyButton, TaskLink } from './ids.tsx'
import { useListKeys } from './keyboard.tsx'
import { live, type Row, rowOf, updatedRow, useEachSecond, useLive } from './live.ts'
import { ErrorLine, Progress, StatusBadge, useAction } from './parts.tsx'
import { may } from './session.ts'
import { SelectionBar } from './task-actions.tsx'
import { addressOf, EMPTY, filterOf, matcherOf, type Search, submittedAt, timesOf } from './task-search.ts'
import { type ListControl, VirtualList } from './virtual-list.tsx'
import { duration, number, say } from './words.ts'

const PAGE = 200
/** Pages of this size are read when a list is shown again. */
const PAGE_AGAIN = 1_000
/** Beyond this, scrolling down no longer loads by itself and older lines go. */
const ROWS_MAX = 10_000
/** A search reads so many pages for its first tasks before it asks the user whether to continue. */
const SEARCHED_PAGES_MAX = 20
const FOUND_MIN = 50
/** A list that events do not keep up to date is read again after so many times as long as that takes. */
const AGAIN_TIMES = 20
const ROW_PX = { wide: 46, narrow: 84 }
const KEPT_MAX = 6
/** Types that an empty list suggests. */
const NAMED_MAX = 8

/** What a list had loaded, and where it was, for the way back to it. */
interface Kept {
  rows: Map<string, Row>
  next: string | null
  top: number
  /** Pages that a search may still read by itself. */
  pagesLeft: number
  readAt: number
  readMs: number
}
const kept = new Map<string, Kept>()

function keptOf(key: string): Kept {
  const found = kept.get(key) ?? {
    ...{ rows: new Map<string, Row>(), next: null, top: 0 },
    ...{ pagesLeft: SEARCHED_PAGES_MAX, readAt: 0, readMs: 0 },
  }
  kept.delete(key)
  kept.set(key, found)
  if (kept.size > KEPT_MAX) kept.delete(kept.keys().next().value as string)
  return found
}

interface Props {
  search: Partial<Search>
  /** Beside the number of tasks. */
  actions?: (rows: readonly Row[]) => ComponentChildren
}

/** Tasks from the API, updated by later events. Needs a `key` of its search. */
export function TaskList({ search: given, actions }: Props) {
  const search = { ...EMPTY, ...given }
  const { rows: heard } = useLive()
  const key = JSON.stringify(search)
  const state = useRef<Kept>(null as never)
  state.current ??= keptOf(key)
  const [, draw] = useState(0)
  const [run, error] = useAction()
  const [selected, setSelected] = useState<ReadonlySet<string>>(new Set())
  const loading = useRef(false)
  const control = useRef<ListControl>(null)
  const narrow = useNarrow()
  const { rows: read, next, top } = state.current

  const load = async (cursor: string | null, count = PAGE) => {
    if (loading.current) return
    loading.current = true
    const began = performance.now()
    try {
      const found = new Map(cursor === null ? [] : state.current.rows)
      let at = cursor
      do {
        const page = await readPage(search, at, count > PAGE ? PAGE_AGAIN : PAGE)
        for (const task of page.tasks) found.set(task.id, rowOf(task))
        at = page.next
      } while (at !== null && cursor === null && found.size < count)
      state.current.rows = found
      state.current.next = at
      noteRead(state.current, performance.now() - began)
      draw((n) => n + 1)
    } finally {
      loading.current = false
    }
  }
  const { rows, newer, release } = useHeldRows(rowsOf(search, read, heard, next === null), control)
  const renew = () => {
    release()
    draw((n) => n + 1)
  }
  const reload = () => load(null, state.current.rows.size).then(renew)
  useEffect(() => run(reload), [live.generation])
  const isIncomplete = rows.slice(0, PAGE).some(({ payload }) => payload === undefined)
  const refresh = async () => {
    const { readAt, readMs } = state.current
    // A refused search stays refused, and its error stays shown.
    if (error !== '') return
    if (!(isUntold(search) || isIncomplete) || loading.current || Date.now() < readAt + AGAIN_TIMES * readMs) return
    if (next === null && read.size <= PAGE) return load(null)
    const page = await readPage(search, null, PAGE)
    const first = new Map(page.tasks.map((task) => [task.id, rowOf(task)]))
    for (const [id, row] of state.current.rows) if (!first.has(id)) first.set(id, row)
    state.current.rows = first
    noteRead(state.current, page.ms)
    draw((n) => n + 1)
  }
  // Events contain no payloads, groups, tags and batches, and of errors only the start.
  useEachSecond(refresh, [])

  const isFew = next !== null && rows.length < FOUND_MIN
  const isMoreSought = isFew && state.current.pagesLeft > 0
  useEffect(() => {
    if (!isMoreSought) return
    state.current.pagesLeft -= 1
    run(() => load(next))
  }, [isMoreSought, next])
  const more = () => {
    if (next !== null && rows.length < ROWS_MAX && !isFew) run(() => load(next))
  }
  const older = () => {
    state.current.pagesLeft = SEARCHED_PAGES_MAX
    run(() => load(next))
  }
  const select = (id: string, isOn: boolean) => {
    const changed = new Set(selected)
    if (isOn) changed.add(id)
    else changed.delete(id)
    setSelected(changed)
  }
  useListKeys({
    count: rows.length,
    focus: (index) => control.current?.focus(index),
    toggle: (index) => may('submit') && rows[index] && select(rows[index].id, !selected.has(rows[index].id)),
  })
  const notes = [say('shown', `${number(rows.length)}${next === null ? '' : '+'}`)]
  if (isMoreSought) notes.push(say('loading'))
  const isEverySelected = rows.length > 0 && rows.every(({ id }) => selected.has(id))
  return (
    <>
      <ErrorLine error={error} />
      <div class="list-line">
        <p class="dim count" aria-live="off">
          {notes.join(' · ')}{' '}
          {newer > 0 && (
            <button
              type="button"
              class="plain small"
              onClick={() => {
                control.current?.toTop()
                renew()
              }}
            >
              {say('showNewer', number(newer))}
            </button>
          )}
          {isFew && !isMoreSought && (
            <button type="button" class="plain small" onClick={older}>
              {say('searchOlder')}
            </button>
          )}
        </p>
        {actions?.(rows)}
      </div>
      <VirtualList
        class="tasks"
        control={control}
        empty={(loading.current && read.size === 0) || isMoreSought ? say('loading') : <NoTasks search={search} />}
        items={rows}
        keyOf={({ id }) => id}
        rowHeight={narrow ? ROW_PX.narrow : ROW_PX.wide}
        label={say('tasks')}
        onEnd={more}
        onOpen={({ id }) => {
          location.hash = `#/tasks/${id}`
        }}
        top={top}
        onScroll={(at) => {
          state.current.top = at
        }}
        rowClass={({ id }) => (selected.has(id) ? 'selected' : '')}
        head={
          <>
            <span role="columnheader" class="cell-check">
              {may('submit') && (
                <input
                  type="checkbox"
                  aria-label={say('selectAll')}
                  checked={isEverySelected}
                  onChange={() => setSelected(new Set(isEverySelected ? [] : rows.map(({ id }) => id)))}
                />
              )}
            </span>
            {(['task', 'type', 'group', 'payload', 'status', 'age', 'duration', 'worker'] as const).map((word) => (
              <span key={word} role="columnheader" class={`cell-${word}`}>
                {say(word)}
              </span>
            ))}
          </>
        }
        row={(row) => <Line row={row} isSelected={selected.has(row.id)} select={select} />}
      />
      {selected.size > 0 && (
        <SelectionBar
          tasks={rows.filter(({ id }) => selected.has(id))}
          clear={() => setSelected(new Set())}
          done={reload}
        />
      )}
    </>
  )
}

/** Ways on from a search that finds nothing: its words may have been meant as a type. */
function NoTasks({ search }: { search: Search }) {
  const { types } = useLive()
  const word = (search.type || search.error).toLowerCase()
  const named = types.filter(({ type }) => word !== '' && type !== search.type && type.toLowerCase().includes(word))
  const isSearch = Object.values(search).some((value) => value !== '')
  return (
    <>
      {say('noTasks')} {isSearch && <a href="#/tasks">{say('showAll')}</a>}
      {named.length > 0 && (
        <span class="badges">
          {say('typesNamed', search.type || search.error)}
          {named.slice(0, NAMED_MAX).map(({ type }) => (
            <a key={type} class="badge" href={addressOf({ ...search, error: '', type })}>
              {type}
            </a>
          ))}
        </span>
      )}
    </>
  )
}

async function readPage(search: Search, cursor: string | null, limit: number) {
  const position = cursor === null ? {} : { cursor }
  const parameters = new URLSearchParams({ ...filterOf(search), ...position, limit: String(limit) })
  const began = performance.now()
  const page = await get<{ tasks: Task[]; next_cursor: string | null }>(`/tasks?${parameters}`)
  return { tasks: page.tasks, next: page.next_cursor, ms: performance.now() - began }
}

function noteRead(list: Kept, ms: number): void {
  list.readAt = Date.now()
  list.readMs = ms
}

/** Events do not tell whether a task fits, or when it is its turn. */
function isUntold({ status, tag, batch, group, error }: Search): boolean {
  return status === 'pending' || [tag, batch, group, error].some((value) => value !== '')
}

/**
 * In the order of the API, in which the ids of one millisecond have none. Tasks known from events are shown only if they
 * cannot be on a page that is not loaded yet. A changed task keeps its row, and is removed when it no longer matches.
 */
function rowsOf(search: Search, read: Map<string, Row>, heard: Map<string, Row>, all: boolean): Row[] {
  const { status, type } = search
  const oldest = all || read.size === 0 ? 0 : Math.min(...[...read.keys()].map(submittedAt))
  const isTold = !isUntold(search)
  const rows: Row[] = []
  for (const row of read.values()) {
    const change = heard.get(row.id)
    rows.push(change && change.at >= row.at ? updatedRow(row, change) : row)
  }
  const others = [...heard.values()].filter(({ id }) => isTold && !read.has(id) && submittedAt(id) > oldest)
  const { from, to } = timesOf(search)
  const fits = matcherOf(search)
  return merged(others, rows)
    .filter((row) => (status === '' || row.status === status) && (type === '' || row.type === type))
    .filter((row) => submittedAt(row.id) >= from && submittedAt(row.id) < to && fits(row))
    .slice(0, ROWS_MAX)
}

/** Tasks of events, newest first, each before the rows that are not newer. */
function merged(others: Row[], rows: Row[]): Row[] {
  others.sort((a, b) => submittedAt(b.id) - submittedAt(a.id) || b.place! - a.place!)
  const all: Row[] = []
  let next = 0
  for (const row of rows) {
    const at = submittedAt(row.id)
    while (next < others.length && submittedAt(others[next]!.id) >= at) all.push(others[next++]!)
    all.push(row)
  }
  return [...all, ...others.slice(next)]
}

interface LineProps {
  row: Row
  isSelected: boolean
  select: (id: string, isOn: boolean) => void
}

function Line({ row, isSelected, select }: LineProps) {
  const { id, type, status, progress, told, worker, group, payload, attempts } = row
  const isBad = status === 'failed' || status === 'timeout'
  return (
    <>
      <span role="cell" class="cell-check">
        {may('submit') && (
          <input
            type="checkbox"
            aria-label={say('selectOne', id)}
            checked={isSelected}
            onChange={({ currentTarget }) => select(id, currentTarget.checked)}
          />
        )}
      </span>
      <span role="cell" class="cell-task">
        <TaskLink id={id} />
        <CopyButton text={id} label={say('copyId')} />
      </span>
      <span role="cell" class="cell-type" title={type}>
        {type}
      </span>
      <span role="cell" class="cell-group" title={group ?? ''}>
        {group}
      </span>
      <span role="cell" class="cell-payload" title={payload ?? ''}>
        <code>{payload === '{}' || payload === 'null' ? '' : payload}</code>
        {isBad && told !== '' && (
          <span class="bad" title={told}>
            {told}
          </span>
        )}
      </span>
      <span role="cell" class="cell-status">
        {status === 'processing' && progress !== null ? (
          <Progress progress={progress} isShort />
        ) : (
          <StatusBadge status={status} />
        )}
        {attempts > 1 && (
          <small title={say('attempts')} class="dim">
            ×{attempts}
          </small>
        )}
      </span>
      <span role="cell" class="cell-age dim">
        <Age id={id} />
      </span>
      <span role="cell" class="cell-duration dim">
        {durationOf(row)}
      </span>
      <span role="cell" class="cell-worker dim" title={worker ?? ''}>
        {worker}
      </span>
    </>
  )
}

/** Of the latest attempt; it counts on while that runs. */
function durationOf({ status, started, ended }: Row): string {
  if (started === null) return ''
  if (status === 'processing') return age(Date.parse(started))
  if (!TERMINAL.includes(status) || ended === null) return ''
  return duration(Math.max(0, Date.parse(ended) - Date.parse(started)) / 1_000)
}

function useNarrow(): boolean {
  const query = matchMedia('(max-width: 720px)')
  const [narrow, setNarrow] = useState(query.matches)
  useEffect(() => {
    const onChange = () => setNarrow(query.matches)
    query.addEventListener('change', onChange)
    return () => query.removeEventListener('change', onChange)
  }, [])
  return narrow
}
