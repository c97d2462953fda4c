import { useEffect, useState } from 'preact/hooks'
import {
  type Change,
  get,
  type NamedLimit,
  type Stats,
  type Status,
  type Task,
  TERMINAL,
  type TypeInfo,
  urlOf,
} from './api.ts'

/** Points of the charts: one per second. */
const HISTORY_MAX = 300
const ROWS_MAX = 5_000
const TOLD_MAX = 200
const AGAIN_MS = 1_000
/** People do not read faster, and thousands of changes per second would keep the page from scrolling. */
const DRAWN_EVERY_MS = 100
/** Statistics arrive each second: a connection without them for this long is broken, even if nothing says so. */
const SILENT_MS_MAX = 10_000

export interface Point {
  at: number
  waiting: number
  running: number
  /** Per second since the previous point, from events received by this page. */
  finished: number
  types: Map<string, { finished: number; failed: number }>
}

/** A row of the list of tasks, small enough to keep thousands. */
export interface Row {
  id: string
  type: string
  status: Status
  attempts: number
  progress: Task['progress']
  /** The start of its error or result. */
  told: string
  at: string
  worker: string | null
  /** Of the latest attempt. */
  started: string | null
  ended: string | null
  /** The start of the payload; undefined where only an event is known, which contains neither this nor the group. */
  payload?: string
  group?: string | null
  /** Counts the tasks of which events have told, in the order of the first one. */
  place?: number
}

type Connection = 'connecting' | 'live' | 'away'

/**
 * The state of the page, updated by Server-Sent Events. Arriving changes, possibly thousands per second, only update the
 * state; components are rendered ten times per second.
 */
export const live = {
  connection: 'connecting' as Connection,
  stats: null as Stats | null,
  types: [] as TypeInfo[],
  limits: [] as NamedLimit[],
  history: [] as Point[],
  /** The latest state of each task with an event, oldest change first. */
  rows: new Map<string, Row>(),
  /** When the latest figures arrived, in milliseconds; 0 before the first. */
  heardAt: 0,
  /** Increases with every reconnect, after which earlier data may be stale. */
  generation: 0,
}

/** By type since the last point; null before the first one of a connection. */
let ended: Map<string, { finished: number; failed: number }> | null = null
let events: EventSource | null = null
/** Of the next attempt to connect. */
let timer: ReturnType<typeof setTimeout> | undefined
const drawers = new Set<() => void>()
let isDrawing = false
let drawnAt = 0

/** Renders the component again after changes. */
export function useLive(): typeof live {
  const [, draw] = useState(0)
  useEffect(() => {
    const drawer = () => draw((n) => n + 1)
    drawers.add(drawer)
    return () => void drawers.delete(drawer)
  }, [])
  return live
}

/** Calls `read` at first, every second, and after a reconnect. Returns what the last call was refused with. */
export function useEachSecond(read: () => Promise<unknown>, keys: readonly unknown[]): string {
  const { stats, generation } = useLive()
  const [error, setError] = useState('')
  const note = (refused: Error) => setError(refused.message)
  useEffect(() => void read().then(() => setError(''), note), [stats, generation, ...keys])
  return error
}

/**
 * Follows the server while the page is visible: browsers allow six connections per server over all tabs, and a hidden tab
 * needs none.
 */
export function start(): void {
  const onVisibility = () => (document.hidden ? close() : open())
  document.addEventListener('visibilitychange', onVisibility)
  onVisibility()
}

function changed(): void {
  if (isDrawing) return
  isDrawing = true
  // At once where nothing was drawn for a while.
  setTimeout(() => requestAnimationFrame(draw), Math.max(0, drawnAt + DRAWN_EVERY_MS - performance.now()))
}

function draw(): void {
  isDrawing = false
  drawnAt = performance.now()
  for (const drawer of drawers) drawer()
}

let places = 0

function note(change: Change): void {
  const { task_id: id, type, status } = change
  const before = live.rows.get(id)
  const changedRow = rowOf({ ...change, id, updated_at: change.timestamp })
  const row = before ? updatedRow(before, changedRow) : changedRow
  row.place = before?.place ?? places++
  if (status === 'pending') row.started = null
  if (status === 'processing') {
    row.progress ??= before?.progress ?? null
    // Progress of the same attempt does not start it again.
    if (before?.status !== 'processing') row.started = change.timestamp
  }
  live.rows.delete(id)
  live.rows.set(id, row)
  if (TERMINAL.includes(status)) count(type, status === 'failed' || status === 'timeout')
  if (live.rows.size > ROWS_MAX) live.rows.delete(live.rows.keys().next().value as string)
  changed()
}

function count(type: string, isFailure: boolean): void {
  const counted = ended?.get(type) ?? { finished: 0, failed: 0 }
  counted.finished += 1
  if (isFailure) counted.failed += 1
  ended?.set(type, counted)
}

/** Deleted tasks: no event tells that they are gone. Without ids, which ones is known to the server only. */
export function forget(ids: Iterable<string> = [...live.rows.keys()]): void {
  for (const id of ids) live.rows.delete(id)
  changed()
}

type Shown = Pick<Task, 'id' | 'type' | 'status' | 'attempts' | 'progress' | 'result' | 'error' | 'updated_at'> &
  Pick<Task, 'worker_id'> &
  Partial<Pick<Task, 'payload' | 'group' | 'started_at' | 'completed_at'>>

export function rowOf(task: Shown): Row {
  const { id, type, status, attempts, progress, result, error, updated_at: at, worker_id: worker } = task
  const told = (error ?? (result === null ? '' : JSON.stringify(result))).slice(0, TOLD_MAX).split('\n')[0]!
  const ended = task.completed_at ?? (TERMINAL.includes(status) ? at : null)
  const row = { id, type, status, attempts, progress, told, at, worker, started: task.started_at ?? null, ended }
  if (task.payload === undefined) return row
  return { ...row, payload: JSON.stringify(task.payload).slice(0, TOLD_MAX), group: task.group ?? null }
}

/** A row that is newer, with what its event does not contain. */
export function updatedRow(known: Row, heard: Row): Row {
  const { payload, group } = known
  const started = heard.started ?? known.started
  return payload === undefined ? { ...heard, started } : { ...heard, started, payload, group: group ?? null }
}

function noteStats(stats: Stats & { types: TypeInfo[]; limits?: NamedLimit[] }): void {
  live.stats = stats
  live.heardAt = Date.now()
  live.limits = stats.limits ?? []
  live.types = stats.types.sort((a, b) => (a.type < b.type ? -1 : 1))
  const at = Date.now() / 1_000
  const seconds = Math.max(at - (live.history.at(-1)?.at ?? 0), 0.1)
  const counted = [...(ended ?? [])]
  live.history.push({
    at,
    waiting: stats.pending_tasks,
    running: stats.processing_tasks,
    finished: ended ? counted.reduce((sum, [, { finished }]) => sum + finished, 0) / seconds : stats.throughput,
    types: new Map(counted.map(([type, { finished, failed }]) => [type, { finished: finished / seconds, failed }])),
  })
  ended = new Map()
  if (live.history.length > HISTORY_MAX) live.history.shift()
  changed()
}

function connected(connection: Connection): void {
  if (live.connection === connection) return
  live.connection = connection
  if (connection === 'live') live.generation += 1
  changed()
}

function open(): void {
  close()
  ended = null
  events = new EventSource(urlOf('api/v1/events?stats=true'))
  events.onopen = () => connected('live')
  // The browser connects again by itself, except after a refusal. Without its session, the page shows the login.
  events.onerror = () => {
    if (events?.readyState !== EventSource.CLOSED) return connected('away')
    void get('/stats').catch(() => undefined)
    again(AGAIN_MS)
  }
  events.addEventListener('status', ({ data }) => note(JSON.parse(data)))
  events.addEventListener('progress', ({ data }) => note(JSON.parse(data)))
  events.addEventListener('stats', ({ data }) => {
    noteStats(JSON.parse(data))
    watch()
  })
  // Changes were deleted before this page received them.
  events.addEventListener('gap', () => again(0))
  watch()
}

function watch(): void {
  clearTimeout(timer)
  timer = setTimeout(() => again(0), SILENT_MS_MAX)
}

function again(ms: number): void {
  close()
  connected('away')
  timer = setTimeout(open, ms)
}

function close(): void {
  clearTimeout(timer)
  events?.close()
  events = null
  if (live.connection === 'live') connected('away')
}
