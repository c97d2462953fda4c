import { type OnFailure, say } from './words.ts'

export const STATUSES = ['pending', 'processing', 'success', 'failed', 'canceled', 'timeout'] as const
export type Status = (typeof STATUSES)[number]
export const TERMINAL: readonly string[] = ['success', 'failed', 'canceled', 'timeout']
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json }

export interface Task {
  id: string
  type: string
  payload: Json
  priority: number
  status: Status
  attempts: number
  deliveries: number
  max_retry: number
  queue_timeout: number
  process_timeout: number
  timeout_reason: string | null
  created_at: string
  run_at: string
  started_at: string | null
  updated_at: string
  completed_at: string | null
  worker_id: string | null
  progress: number | { [key: string]: Json } | null
  result: Json
  error: string | null
  tags: Record<string, string>
  idempotency_key: string | null
  group: string | null
  uses?: Readonly<Record<string, number>>
  /** The ids of tasks that it waits for or waited for. */
  after: string[]
  on_failure: OnFailure
  batch: string | null
}

/** One run of a task. */
export interface Attempt {
  number: number
  delivery: number
  outcome: string
  worker_id: string | null
  started_at: string
  ended_at: string | null
  error: string | null
}

/** A line that a handler logged. */
export interface LogLine {
  n: number
  delivery: number
  attempt: number
  time: string
  level: string
  message: string | null
  fields: { [name: string]: Json } | null
}

/** Figures over time; see GET /stats/history. */
export interface History {
  range: string
  /** Seconds. */
  slot: number
  slots: {
    at: string
    submitted: number
    started: number
    success: number
    failed: number
    canceled: number
    timeout: number
    errors: number
    wait: Percentiles | null
    run: Percentiles | null
  }[]
}

export interface Attempts {
  /** Oldest first. */
  attempts: Attempt[]
  left_out: number
}

/** A change of a task in MQTT and Server-Sent Events. */
export interface Change {
  event_id: string | null
  task_id: string
  type: string
  status: Status
  attempts: number
  progress: Task['progress']
  result: Json
  error: string | null
  timeout_reason: string | null
  worker_id: string | null
  timestamp: string
}

export interface Percentiles {
  p50: number
  p95: number
  p99: number
}

export interface TypeInfo {
  type: string
  pending: number
  delayed: number
  /** Tasks that wait for other tasks. */
  dependent: number
  processing: number
  max_concurrency: number | null
  group_concurrency: number | null
  group_turns: 'tasks' | 'time'
  rate: { max: number; per: number } | null
  paused: boolean
  held_until: string | null
  workers: number
  throughput: number
  wait: Percentiles | null
  run: Percentiles | null
  payload_schema?: Schema | null
}

export interface Schema {
  type?: string
  properties?: Record<string, Schema>
  required?: string[]
  description?: string
  default?: Json
  enum?: Json[]
  anyOf?: Schema[]
  const?: Json
  minimum?: number
  maximum?: number
  minLength?: number
  maxLength?: number
}

export interface Stats {
  pending_tasks: number
  processing_tasks: number
  success_tasks: number
  failed_tasks: number
  canceled_tasks: number
  timeout_tasks: number
  delayed_tasks: number
  dependent_tasks: number
  total_workers: number
  active_workers: number
  throughput: number
}

export interface Health {
  status: 'healthy' | 'degraded' | 'unhealthy'
  version: string
  engine: string
  durability: string
  uptime: number
  checks: { name: string; ok: boolean; detail: string }[]
}

export interface Worker {
  id: string
  /** Null for workers over HTTP, as `pid`. */
  host: string | null
  pid: number | null
  types: string[]
  concurrency: number
  running: number
  started_at: string
  last_seen: string
}

export interface Holder {
  task_id: string
  worker_id: string
  since: string
  lease_expires_at: string
}

/** A limit that tasks of any type can use; `name/*` is of each key. */
export interface NamedLimit {
  name: string
  max: number | null
  rate: { max: number; per: number } | null
  paused: boolean
  held_until: string | null
  in_use: number | null
  waiting: number | null
}

/** Because of it, a task does not start. */
export interface LimitInTheWay {
  name: string
  reason: 'paused' | 'held' | 'limit_reached' | 'rate_limited'
  needs: number
  max: number | null
  in_use: number
  until: string | null
  holders: Holder[]
}

export interface Schedule {
  id: string
  type: string
  cron: string | null
  timezone: string | null
  /** Seconds. */
  every: number | null
  paused: boolean
  next_at: string | null
  last_at: string | null
  last_task_id: string | null
  payload: Json
  /** The next five ticks. */
  upcoming: string[]
}

/** Progress of a batch; `removed` counts ended tasks that have been deleted. */
export type BatchState = Record<Status, number> & {
  batch: string
  total: number
  removed: number
  /** Percentage of ended tasks, 0–100. */
  progress: number
  done: boolean
}

export interface Explanation {
  reason: string
  max_concurrency: number | null
  holders: Holder[]
  limits: LimitInTheWay[]
  ahead: number
  /** Ids of tasks. */
  waits_for: string[]
  /** Ids of the first tasks that wait for it. */
  successors: string[]
  has_more_successors: boolean
  until: string | null
}

/** An error of the server, with its detail and invalid fields. */
export class Refusal extends Error {
  /** Of HTTP; 0 without an answer of the server. */
  readonly status: number
  readonly fields: { path: string; message: string }[]

  constructor(message: string, status = 0, fields: { path: string; message: string }[] = []) {
    super(message)
    this.status = status
    this.fields = fields
  }
}

/** Null for what is not there. Any other refusal says nothing about that. */
export async function find<T>(path: string): Promise<T | null> {
  try {
    return await get<T>(path)
  } catch (refused) {
    if (refused instanceof Refusal && refused.status === 404) return null
    throw refused
  }
}

// Not in one expression: Vite would take it for a file to include.
const ownUrl = import.meta.url

/** The URL of a path of the server, from that of this script: the page's own URL may end without a slash. */
export const urlOf = (path: string): string => new URL(`../${path}`, ownUrl).href

/** Calls the API. @throws Refusal, also if the server cannot be reached */
export async function call<T>(
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE',
  path: string,
  body?: object,
): Promise<T> {
  const init = body ? { body: JSON.stringify(body), headers: { 'Content-Type': 'application/json' } } : {}
  const answer = await fetch(urlOf(`api/v1${path}`), { method, ...init }).catch(() => {
    throw new Refusal(say('noAnswer'))
  })
  // The session has ended: the reloaded page shows the login.
  if (answer.status === 401 && path !== '/session') location.reload()
  const text = await answer.text()
  const json = text.startsWith('{') ? JSON.parse(text) : {}
  // The answer of an unhealthy server contains the reason.
  if (answer.ok || json.checks) return json as T
  throw new Refusal(json.detail ?? `${answer.status} ${answer.statusText}`, answer.status, json.errors)
}

export const get = <T>(path: string): Promise<T> => call<T>('GET', path)
