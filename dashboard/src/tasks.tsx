import { useEffect, useRef, useState } from 'preact/hooks'
import { get, STATUSES, type Task } from './api.ts'
import { BatchLink } from './flow.tsx'
import { live, type Row, rowOf, useEachSecond, useLive } from './live.ts'
import { ErrorLine, Progress, StatusBadge, useAction } from './parts.tsx'
import { VirtualList } from './virtual-list.tsx'
import { number, say, time } from './words.ts'

const PAGE = 200
/** Beyond this, scrolling down no longer loads by itself and older lines go. */
const ROWS_MAX = 10_000
const ROW_PX = { wide: 44, narrow: 76 }

interface Filter {
  status: string
  type: string
  tag: string
  batch: string
}

/** The tasks that fit a filter, newest first, changing as they do. */
export function TasksView({ query }: { query: URLSearchParams }) {
  const of = (name: string) => query.get(name) ?? ''
  const filter = { status: of('status'), type: of('type'), tag: of('tag'), batch: of('batch') }
  return (
    <>
      <h1>{say('tasks')}</h1>
      <FilterForm key={JSON.stringify(filter)} filter={filter} />
      {filter.batch !== '' && (
        <p class="count">
          {say('batch')} <BatchLink batch={filter.batch} />
        </p>
      )}
      <TaskList key={JSON.stringify(filter)} filter={filter} />
    </>
  )
}

function FilterForm({ filter }: { filter: Filter }) {
  const { types } = useLive()
  const [tag, setTag] = useState(filter.tag)
  const [batch, setBatch] = useState(filter.batch)
  const [id, setId] = useState('')
  const go = (change: Partial<Filter>) => {
    const wanted = Object.entries({ ...filter, tag, batch, ...change }).filter(([, value]) => value !== '')
    location.hash = `#/tasks?${new URLSearchParams(wanted)}`
  }
  const submit = (event: Event) => {
    event.preventDefault()
    if (id.trim() === '') go({})
    else location.hash = `#/tasks/${encodeURIComponent(id.trim())}`
  }
  const names = types.map(({ type }) => type)
  if (filter.type !== '' && !names.includes(filter.type)) names.push(filter.type)
  return (
    <form class="filters" onSubmit={submit}>
      <label>
        {say('status')}
        <select value={filter.status} onChange={(event) => go({ status: event.currentTarget.value })}>
          <option value="">{say('all')}</option>
          {STATUSES.map((status) => (
            <option key={status} value={status}>
              {say(status)}
            </option>
          ))}
        </select>
      </label>
      <label>
        {say('type')}
        <select value={filter.type} onChange={(event) => go({ type: event.currentTarget.value })}>
          <option value="">{say('all')}</option>
          {names.map((type) => (
            <option key={type}>{type}</option>
          ))}
        </select>
      </label>
      <label>
        {say('tag')}
        <input value={tag} placeholder={say('tagHint')} onInput={(event) => setTag(event.currentTarget.value)} />
      </label>
      <label>
        {say('batch')}
        <input value={batch} spellcheck={false} onInput={(event) => setBatch(event.currentTarget.value)} />
      </label>
      <label>
        {say('findTask')}
        <input value={id} spellcheck={false} onInput={(event) => setId(event.currentTarget.value)} />
      </label>
      <button type="submit">{id.trim() === '' ? say('filter') : say('open')}</button>
    </form>
  )
}

/** Tasks from the API, updated by later events. */
export function TaskList({ filter }: { filter: Filter }) {
  const { rows: heard } = useLive()
  const read = useRef(new Map<string, Row>())
  // A new one with every page, so that what was read is drawn at once.
  const [{ next }, setPage] = useState<{ next: string | null }>({ next: null })
  const [run, error] = useAction()
  const loading = useRef(false)
  const narrow = useNarrow()

  const load = async (cursor: string | null) => {
    if (loading.current) return
    loading.current = true
    try {
      const parameters = Object.entries({ ...filter, cursor: cursor ?? '' }).filter(([, value]) => value !== '')
      const search = new URLSearchParams([...parameters, ['limit', String(PAGE)]])
      const page = await get<{ tasks: Task[]; next_cursor: string | null }>(`/tasks?${search}`)
      if (cursor === null) read.current = new Map()
      for (const task of page.tasks) read.current.set(task.id, rowOf(task))
      setPage({ next: page.next_cursor })
    } finally {
      loading.current = false
    }
  }
  useEffect(() => run(() => load(null)), [live.generation])
  const isUntold = filter.tag !== '' || filter.batch !== ''
  useEachSecond(async () => (isUntold && read.current.size <= PAGE ? load(null) : null), [])

  const rows = rowsOf(filter, read.current, heard, next === null)
  const more = () => {
    if (next !== null && rows.length < ROWS_MAX) run(() => load(next))
  }
  return (
    <>
      <ErrorLine error={error} />
      <p class="dim count" aria-live="off">
        {say('shown', number(rows.length))} {isUntold && `· ${say('tagNote')}`}
      </p>
      <VirtualList
        empty={say('noTasks')}
        items={rows}
        rowHeight={narrow ? ROW_PX.narrow : ROW_PX.wide}
        label={say('tasks')}
        onEnd={more}
        head={['task', 'type', 'status', 'attempts', 'progress', 'told', 'changed'].map((word) => (
          <span key={word} role="columnheader" class={`cell-${word}`}>
            {say(word as 'task')}
          </span>
        ))}
        row={(row) => <Line row={row} />}
      />
    </>
  )
}

/**
 * Newest first. Tasks known from events are shown only if they cannot be on a page that is not loaded yet. A changed task
 * keeps its row, and is removed when it no longer matches.
 */
function rowsOf(filter: Filter, read: Map<string, Row>, heard: Map<string, Row>, all: boolean): Row[] {
  const { status, type, tag, batch } = filter
  let oldest = ''
  if (!all) for (const id of read.keys()) if (oldest === '' || id < oldest) oldest = id
  const rows = new Map(read)
  for (const [id, row] of heard) {
    if (rows.has(id) ? row.at >= rows.get(id)!.at : tag === '' && batch === '' && id > oldest) rows.set(id, row)
  }
  return [...rows.values()]
    .filter((row) => (status === '' || row.status === status) && (type === '' || row.type === type))
    .sort((a, b) => (a.id < b.id ? 1 : -1))
    .slice(0, ROWS_MAX)
}

function Line({ row: { id, type, status, attempts, progress, told, at } }: { row: Row }) {
  return (
    <>
      <span role="cell" class="cell-task">
        <a href={`#/tasks/${id}`} title={id}>
          {id}
        </a>
      </span>
      <span role="cell" class="cell-type">
        {type}
      </span>
      <span role="cell" class="cell-status">
        <StatusBadge status={status} />
      </span>
      <span role="cell" class="cell-attempts">
        {attempts}
      </span>
      <span role="cell" class="cell-progress">
        {status === 'processing' && <Progress progress={progress} />}
      </span>
      <span role="cell" class={`cell-told ${status === 'success' ? 'dim' : ''}`}>
        {told}
      </span>
      <span role="cell" class="cell-changed dim">
        {time(at)}
      </span>
    </>
  )
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
