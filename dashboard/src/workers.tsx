import { useState } from 'preact/hooks'
import { get, type Task, type Worker } from './api.ts'
import { useRowKeys } from './keyboard.tsx'
import { useEachSecond } from './live.ts'
import { ariaSort, FilterField, SortButton, useOrder } from './order.tsx'
import { Loading, Meter, Missing, Panel, Progress, usePageTitle } from './parts.tsx'
import { typeAddress } from './task-search.ts'
import { VirtualList } from './virtual-list.tsx'
import { duration, moment, number, say } from './words.ts'

const ROW_PX = { wide: 44, narrow: 96 }
const ROWS_SHOWN = 16
const RUNNING_READ = 1_000
const RUNNING_SHOWN = 200

const COLUMNS = ['worker', 'host', 'running', 'handles', 'uptime', 'seen'] as const
type Column = (typeof COLUMNS)[number]
const ORDERS: Record<Column, (a: Worker, b: Worker) => number> = {
  worker: (a, b) => (a.id < b.id ? -1 : 1),
  host: (a, b) => hostOf(a).localeCompare(hostOf(b), undefined, { numeric: true }),
  running: (a, b) => a.running / a.concurrency - b.running / b.concurrency,
  handles: (a, b) => a.types.length - b.types.length,
  uptime: (a, b) => Date.parse(b.started_at) - Date.parse(a.started_at),
  seen: (a, b) => Date.parse(b.last_seen) - Date.parse(a.last_seen),
}
const ago = (iso: string) => duration(Math.max(0, Math.floor((Date.now() - Date.parse(iso)) / 1_000)))
/** Workers over HTTP do not say where they run. */
const hostOf = ({ host, pid }: Worker) => (host === null || pid === null ? '–' : `${host}, ${say('process', pid)}`)
const addressOf = (id: string) => `#/workers/${encodeURIComponent(id)}`

/** The live workers of all processes. */
export function WorkersView() {
  const [workers, setWorkers] = useState<Worker[] | null>(null)
  const [filter, setFilter] = useState('')
  const [order, sort] = useOrder<Column>('worker')
  const refusal = useEachSecond(async () => setWorkers((await get<{ workers: Worker[] }>('/workers')).workers), [])
  const fits = (worker: Worker) => [worker.id, hostOf(worker), ...worker.types].some((text) => text.includes(filter))
  const found = (workers ?? []).filter(fits).sort(ORDERS[order.by])
  if (order.isDown) found.reverse()
  const control = useRowKeys(found.length)
  if (!workers) {
    return (
      <>
        <h1>{say('workers')}</h1>
        <Loading error={refusal} />
      </>
    )
  }
  const [running, slots] = [sum(found, 'running'), sum(found, 'concurrency')]
  const isNarrow = matchMedia('(max-width: 720px)').matches
  return (
    <>
      <h1>{say('workers')}</h1>
      {workers.length === 0 && <p class="empty">{say('noWorkers')}</p>}
      {workers.length > 0 && (
        <Panel
          class="bare"
          title={say('busy', number(running), number(slots))}
          aside={
            <span class="terms">
              <span class="dim">{say('of', number(found.length), number(workers.length))}</span>
              <FilterField value={filter} set={setFilter} />
            </span>
          }
        >
          <VirtualList
            class="workers"
            control={control}
            height={
              Math.min(found.length, ROWS_SHOWN) * (isNarrow ? ROW_PX.narrow : ROW_PX.wide) + (isNarrow ? 0 : 37) || 120
            }
            empty={say('noneFound')}
            items={found}
            keyOf={({ id }) => id}
            rowHeight={isNarrow ? ROW_PX.narrow : ROW_PX.wide}
            label={say('workers')}
            onOpen={({ id }) => {
              location.hash = addressOf(id)
            }}
            head={COLUMNS.map((column) => (
              <span key={column} role="columnheader" class={`col-${column}`} aria-sort={ariaSort(order, column)}>
                <SortButton label={say(column)} sort={() => sort(column, column === 'running')} />
              </span>
            ))}
            row={(worker) => <Row worker={worker} />}
          />
        </Panel>
      )}
    </>
  )
}

function sum(workers: readonly Worker[], of: 'running' | 'concurrency'): number {
  return workers.reduce((total, worker) => total + worker[of], 0)
}

function Row({ worker }: { worker: Worker }) {
  const { id, types, running, concurrency, started_at, last_seen } = worker
  return (
    <>
      <span role="rowheader" class="col-worker" title={id}>
        <a href={addressOf(id)}>{id}</a>
      </span>
      <span role="cell" class="col-host" title={hostOf(worker)} data-label={say('host')}>
        {hostOf(worker)}
      </span>
      <span role="cell" class="col-running" data-label={say('running')}>
        <span class="used">
          <Meter value={running} max={concurrency} label={`${id}: ${say('running')}`} />
          <span>{say('of', number(running), number(concurrency))}</span>
        </span>
      </span>
      <span role="cell" class="col-handles dim" title={types.slice(0, 100).join('\n')}>
        {types.join(', ').slice(0, 300) || '–'}
      </span>
      <span role="cell" class="col-uptime dim" title={moment(started_at)} data-label={say('uptime')}>
        {ago(started_at)}
      </span>
      <span role="cell" class="col-seen dim" title={moment(last_seen)} data-label={say('seen')}>
        {say('ago', ago(last_seen))}
      </span>
    </>
  )
}

/** One worker with its types and its tasks. */
export function WorkerView({ id }: { id: string }) {
  const [worker, setWorker] = useState<Worker | null | undefined>(undefined)
  const [tasks, setTasks] = useState<Task[]>([])
  usePageTitle(id)
  const refusal = useEachSecond(async () => {
    const [told, page] = await Promise.all([
      get<{ workers: Worker[] }>('/workers'),
      get<{ tasks: Task[] }>(`/tasks?status=processing&limit=${RUNNING_READ}`),
    ])
    setWorker(told.workers.find((each) => each.id === id) ?? null)
    setTasks(page.tasks.filter(({ worker_id }) => worker_id === id))
  }, [id])
  if (worker === undefined) return <Loading error={refusal} />
  if (worker === null) {
    return <Missing says={say('noWorkerOf')} id={id} link="#/workers" to={say('workers')} />
  }
  const { types, running, concurrency, started_at, last_seen } = worker
  return (
    <>
      <div class="title">
        <div class="what">
          <h1>{id}</h1>
          <span class="dim">
            {hostOf(worker)} · {say('uptime')} {ago(started_at)} · {say('lastSeen', ago(last_seen))}
          </span>
        </div>
      </div>
      <Panel
        title={say('running')}
        aside={
          <span class="worker used">
            <Meter value={running} max={concurrency} label={say('running')} />
            {say('of', number(running), number(concurrency))}
          </span>
        }
      >
        {tasks.length === 0 && <p class="dim">{say('idle')}</p>}
        <ul class="runs">
          {tasks.slice(0, RUNNING_SHOWN).map(({ id: task, type, started_at: since, progress }) => (
            <li key={task}>
              <a href={`#/tasks/${task}`}>{task}</a>
              <span>
                <a href={typeAddress(type)}>{type}</a>
              </span>
              <span class="dim">
                {say('since', ago(since!))} <Progress progress={progress} isShort />
              </span>
            </li>
          ))}
        </ul>
        {tasks.length > RUNNING_SHOWN && <p class="dim">{say('andMore', number(tasks.length - RUNNING_SHOWN))}</p>}
      </Panel>
      <Panel title={say('handles')}>
        <p class="badges">
          {types.map((type) => (
            <a key={type} class="badge" href={typeAddress(type)}>
              {type}
            </a>
          ))}
        </p>
      </Panel>
    </>
  )
}
