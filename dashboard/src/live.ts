import { useEffect, useState } from 'preact/hooks'
import { type Change, get, type Stats, type Status, type Task, TERMINAL, type TypeInfo } from './api.ts'
import { listen } from './mqtt.ts'

/** Points of the charts: one per second. */
const HISTORY_MAX = 300
const ROWS_MAX = 5_000
const TOLD_MAX = 200
const AGAIN_MS = 1_000
/** Interval of reconnects while MQTT is unavailable. */
const MQTT_AGAIN_MS = 30_000

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
}

type Connection = 'connecting' | 'mqtt' | 'sse' | 'away'

/**
 * The state of the page, updated by MQTT over WebSocket, or by Server-Sent Events without MQTT. Arriving changes, possibly
 * thousands per second, only update the state; components are rendered once per frame.
 */
export const live = {
  connection: 'connecting' as Connection,
  stats: null as Stats | null,
  types: [] as TypeInfo[],
  history: [] as Point[],
  /** The latest state of each task with an event, oldest change first. */
  rows: new Map<string, Row>(),
  /** Increases with every reconnect, after which earlier data may be stale. */
  generation: 0,
}

/** By type since the last point. */
let ended = new Map<string, { finished: number; failed: number }>()
const drawers = new Set<() => void>()
let frame = 0

/** Renders the component again after each frame with a change. */
export function useLive(): typeof live {
  const [, draw] = useState(0)
  useEffect(() => {
    const drawer = () => draw((n) => n + 1)
    drawers.add(drawer)
    return () => void drawers.delete(drawer)
  }, [])
  return live
}

/** Calls `read` at first, every second, and after a reconnect. */
export function useEachSecond(read: () => Promise<unknown>, keys: readonly unknown[]): void {
  const { stats, generation } = useLive()
  useEffect(() => void read().catch(() => undefined), [stats, generation, ...keys])
}

export function start(): void {
  void followMqtt()
}

function changed(): void {
  if (frame !== 0) return
  frame = requestAnimationFrame(() => {
    frame = 0
    for (const draw of drawers) draw()
  })
}

function note(change: Change): void {
  const { task_id: id, type, status } = change
  const before = live.rows.get(id)
  const row = rowOf({ ...change, id, updated_at: change.timestamp })
  if (status === 'processing') row.progress ??= before?.progress ?? null
  live.rows.delete(id)
  live.rows.set(id, row)
  if (TERMINAL.includes(status)) count(type, status === 'failed' || status === 'timeout')
  if (live.rows.size > ROWS_MAX) live.rows.delete(live.rows.keys().next().value as string)
  changed()
}

function count(type: string, isFailure: boolean): void {
  const counted = ended.get(type) ?? { finished: 0, failed: 0 }
  counted.finished += 1
  if (isFailure) counted.failed += 1
  ended.set(type, counted)
}

type Shown = Pick<Task, 'id' | 'type' | 'status' | 'attempts' | 'progress' | 'result' | 'error' | 'updated_at'>

export function rowOf({ id, type, status, attempts, progress, result, error, updated_at: at }: Shown): Row {
  const told = (error ?? (result === null ? '' : JSON.stringify(result))).slice(0, TOLD_MAX).split('\n')[0]!
  return { id, type, status, attempts, progress, told, at }
}

function noteStats(stats: Stats, types: TypeInfo[]): void {
  live.stats = stats
  live.types = types.sort((a, b) => (a.type < b.type ? -1 : 1))
  const at = Date.now() / 1_000
  const before = live.history.at(-1)
  const seconds = before ? Math.max(at - before.at, 0.1) : Number.POSITIVE_INFINITY
  const finished = [...ended.values()].reduce((sum, counted) => sum + counted.finished, 0)
  live.history.push({
    at,
    waiting: stats.pending_tasks,
    running: stats.processing_tasks,
    // No counts exist before the first point.
    finished: before ? finished / seconds : stats.throughput,
    types: new Map([...ended].map(([type, { finished: of, failed }]) => [type, { finished: of / seconds, failed }])),
  })
  ended = new Map()
  if (live.history.length > HISTORY_MAX) live.history.shift()
  changed()
}

function connected(connection: Connection): void {
  if (live.connection === connection) return
  live.connection = connection
  if (connection === 'mqtt' || connection === 'sse') live.generation += 1
  changed()
}

async function followMqtt(): Promise<void> {
  const { mqtt } = await askServer()
  if (!mqtt) return followEvents(MQTT_AGAIN_MS)
  const { path, prefix } = mqtt
  const text = new TextDecoder()
  let opened = false
  // Below the page, wherever a proxy serves it.
  const url = new URL(`.${path}`, location.href)
  url.protocol = location.protocol.replace('http', 'ws')
  url.hash = ''
  listen(url.href, filters(prefix), {
    onOpen: () => {
      opened = true
      connected('mqtt')
      void readStats().catch(() => undefined) // The first figures; events update them every second.
    },
    onMessage: (topic, payload) => {
      if (payload.length === 0) return
      const told = JSON.parse(text.decode(payload))
      if (topic === `${prefix}/stats`) noteStats(told, told.types)
      else note(told)
    },
    onClose: () => {
      if (!opened) return followEvents(MQTT_AGAIN_MS)
      connected('away')
      setTimeout(followMqtt, AGAIN_MS)
    },
  })
}

const filters = (prefix: string) => [`${prefix}/events/#`, `${prefix}/tasks/+/progress`, `${prefix}/stats`]

async function askServer(): Promise<{ mqtt: { path: string; prefix: string } | null }> {
  for (;;) {
    try {
      const answer = await fetch('live.json')
      return await answer.json()
    } catch {
      connected('away')
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS))
    }
  }
}

async function readStats(): Promise<void> {
  const [stats, { types }] = await Promise.all([get<Stats>('/stats'), get<{ types: TypeInfo[] }>('/types')])
  noteStats(stats, types)
}

function followEvents(forMs: number): void {
  const events = new EventSource('api/v1/events')
  const take = ({ data }: MessageEvent<string>) => note(JSON.parse(data))
  events.addEventListener('status', take)
  events.addEventListener('progress', take)
  events.onopen = () => connected('sse')
  events.onerror = () => connected('away')
  const ticking = setInterval(() => void readStats().catch(() => undefined), AGAIN_MS)
  void readStats().catch(() => undefined)
  setTimeout(() => {
    clearInterval(ticking)
    events.close()
    void followMqtt()
  }, forMs)
}
