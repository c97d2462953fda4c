import { leaseLost, XQueueError } from '../../task/errors.ts'
import type { BatchInfo, Predecessor } from '../../task/flow.ts'
import { noCounts, RETRYABLE_STATUSES } from '../../task/status.ts'
import type { Task } from '../../task/task.ts'
import { explain } from '../explanation.ts'
import {
  type Explanation,
  type Holder,
  type ListQuery,
  type MatchQuery,
  PAGE_BYTES_MAX,
  type Page,
  type Stats,
  type StoreOptions,
  type TaskFilter,
  type TypeInfo,
  type WorkerInfo,
} from '../store.ts'
import type { Database, Row } from './database.ts'
import type { Flows } from './flows.ts'
import type { GroupScheduler } from './group-scheduler.ts'
import type { RateLog } from './rate-log.ts'
import type { Rates } from './rates.ts'
import { groupOf, publicStatus, stateOf, storedAs, taskOf, tokenOf, WAITING } from './rows.ts'
import { type Registry, rateOf } from './types.ts'

/** Maximum number of tasks that a page examines, regardless of how few of them match the filter. */
const EXAMINED_MAX = 50_000
const AHEAD_MAX = 10_000
/** All columns of a task except those that may be long, which are read only for the tasks that a page has room for. */
const BARE = `SELECT t.seq, t.id, t.type, t.status, t.priority, t.attempts, t.deliveries, t.max_retry,
  t.queue_timeout_ms, t.process_timeout_ms, t.timeout_reason, t.created_at, t.run_at, t.started_at,
  t.updated_at, t.completed_at, t.worker_id, t.tags, t.idempotency_key, t.task_group, t.waits_for, t.on_failure,
  t.batch, CASE WHEN length(t.progress) <= 24 THEN t.progress END AS progress,
  NULL AS result, NULL AS error, 'null' AS payload FROM tasks t`
/** Each condition has an index of the ready tasks; no index covers both. */
const WITHOUT_GROUP = "AND t.task_group = ''"
const WITH_GROUP = "AND t.task_group <> ''"
/** As in the condition of the index of these tasks. */
const UNSUCCESSFUL = `(${RETRYABLE_STATUSES.map((status) => `t.status = '${status}'`).join(' OR ')})`

/** The lists of waiting tasks that follow the ready ones, and the time that orders each. */
const PUT_ASIDE = [
  ['delayed', 't.run_at'],
  ['dependent', 't.created_at'],
] as const

type Values = (string | number)[]

/** All read-only operations. */
export class Queries {
  readonly #database: Database
  readonly #registry: Registry
  readonly #rates: Rates
  readonly #groups: GroupScheduler
  readonly #rateLog: RateLog
  readonly #flows: Flows
  readonly #options: StoreOptions

  constructor(
    database: Database,
    registry: Registry,
    rates: Rates,
    groups: GroupScheduler,
    rateLog: RateLog,
    flows: Flows,
    options: StoreOptions,
  ) {
    this.#flows = flows
    this.#database = database
    this.#registry = registry
    this.#rates = rates
    this.#groups = groups
    this.#rateLog = rateLog
    this.#options = options
  }

  get(ids: readonly string[], { bare = false } = {}): (Task | null)[] {
    return ids.map((id) => {
      const row = bare ? this.#database.query(`${BARE} WHERE t.id = ?`, id)[0] : this.#database.get('taskById', id)
      return row ? taskOf(row) : null
    })
  }

  list(query: ListQuery): Page {
    return query.status === 'pending' && query.batch === undefined ? this.#listPending(query) : this.#listNewest(query)
  }

  matching({ filter, statuses, since, skip, max }: MatchQuery): string[] {
    const rows: Row[] = []
    const [where, values] = conditions(filter)
    // Named as literals, so that SQLite uses the partial index of the status.
    const parts = statuses.flatMap(storedAs).flatMap((status) => {
      const inStatus = `t.status = '${status}'`
      if (status === 'pending') return [`${inStatus} ${WITHOUT_GROUP}`, `${inStatus} ${WITH_GROUP}`]
      if (status === 'processing') return [`${inStatus} AND t.cancel_at IS NULL`]
      return [publicStatus(status) === 'pending' ? inStatus : `${inStatus} AND ${UNSUCCESSFUL}`]
    })
    for (const part of parts) {
      const sql = `SELECT t.id FROM tasks t WHERE ${part} AND t.updated_at <= ? ${where} LIMIT ?`
      rows.push(...this.#database.query(sql, since ?? Number.MAX_SAFE_INTEGER, ...values, skip + max - rows.length))
      if (rows.length >= skip + max) break
    }
    return rows.slice(skip).map((row) => row.id as string)
  }

  explain(id: string, now: number): Explanation | null {
    const row = this.#database.get('taskById', id)
    if (!row) return null
    const task = taskOf(row)
    const { type, priority, runAt } = task
    const rules = this.#registry.rules(type)
    const { maxConcurrency = null, groupConcurrency = null, rate = null, paused = false } = rules ?? {}
    const ready = { type, priority, group: task.group ?? '', runAt, seq: row.seq as number }
    const ahead = row.status === 'pending' ? this.#groups.ahead(ready, AHEAD_MAX) : 0
    return explain({
      task,
      now,
      paused,
      hasWorker: this.workers(now).some(({ types }) => types.includes(type)),
      maxConcurrency,
      groupConcurrency,
      holders: this.holders(type),
      holdersOfGroup: task.group === null ? [] : this.#database.all('holdersInGroup', type, task.group).map(holderOf),
      nextStartAt: rate && this.#rateLog.nextAt(type, rate, now),
      ahead,
      waitsFor: row.status === 'dependent' ? this.#flows.awaitedBy(row.seq as number) : [],
    })
  }

  /** @throws XQueueError `lease_lost` */
  predecessor(lease: string, id: string): Predecessor | null {
    const [values] = this.#database.arrays('statesById', JSON.stringify([lease.slice(0, lease.lastIndexOf('.'))]))
    const state = values && stateOf(values)
    if (state?.status !== 'processing' || tokenOf(state) !== lease) throw leaseLost(lease)
    return this.#flows.predecessor(state.seq, id)
  }

  batch(name: string): BatchInfo | null {
    const batch = this.#database.get('batchByName', name)
    if (!batch) return null
    const counts = noCounts()
    for (const { status, n } of this.#database.all('countsOfBatch', name))
      counts[publicStatus(status as string)] += n as number
    return { batch: name, total: batch.total as number, counts }
  }

  types(names: readonly string[] | undefined, withHolders: boolean, now: number): TypeInfo[] {
    const counts = this.#counts(names)
    const rates = this.#rates.recent(now, names)
    const workers = this.workers(now)
    // A single type costs the same regardless of the number of types.
    const rows = names && [...names].sort().flatMap((name): Row[] => this.#database.all('typeByName', name))
    return (rows ?? this.#database.all('allTypes'))
      .filter(({ type }) => names || this.#registry.isKnown(type as string, now) || counts.has(type as string))
      .map((row) => {
        const type = row.type as string
        const count = (status: string) => counts.get(type)?.get(status) ?? 0
        const { throughput = 0, waitMs = null, runMs = null } = rates.get(type) ?? {}
        return {
          type,
          pending: WAITING.reduce((sum, status) => sum + count(status), 0),
          delayed: count('delayed'),
          dependent: count('dependent'),
          processing: count('processing'),
          maxConcurrency: row.max_concurrency as number | null,
          groupConcurrency: row.group_concurrency as number | null,
          rate: rateOf(row),
          paused: row.paused === 1,
          declared: row.declared === 1,
          workers: workers.filter(({ types }) => types.includes(type)).length,
          throughput,
          waitMs,
          runMs,
          payloadSchema: row.payload_schema === null ? null : JSON.parse(row.payload_schema as string),
          defaults: JSON.parse(row.spec_defaults as string),
          ceilings: JSON.parse(row.ceilings as string),
          retention: JSON.parse(row.retention as string),
          holders: withHolders ? this.holders(type) : [],
        }
      })
  }

  workers(now: number): WorkerInfo[] {
    const running = new Map(this.#database.all('runningByWorker').map((row) => [row.worker_id, row.n as number]))
    return this.#database.all('liveWorkers', now - this.#options.workerTtlMs).map((row) => ({
      id: row.id as string,
      host: row.host as string,
      pid: row.pid as number,
      types: JSON.parse(row.types as string),
      concurrency: row.concurrency as number,
      startedAt: row.started_at as number,
      lastSeen: row.last_seen as number,
      running: running.get(row.id!) ?? 0,
      processed: row.processed as number,
      failed: row.failed as number,
    }))
  }

  holders(type: string): Holder[] {
    return this.#database.all('holders', type).map(holderOf)
  }

  stats(now: number): Stats {
    const totals = noCounts()
    const streams: { name: string; length: number }[] = []
    let [delayed, dependent] = [0, 0]
    const byType = this.#counts()
    for (const [type, counts] of byType) {
      for (const [status, n] of counts) totals[publicStatus(status)] += n
      const of = (status: string) => counts.get(status) ?? 0
      delayed += of('delayed')
      dependent += of('dependent')
      streams.push({ name: type, length: [...WAITING, 'processing'].reduce((sum, status) => sum + of(status), 0) })
    }
    const limits = this.#database.all('allTypes').filter((row) => row.max_concurrency !== null)
    const rates = [...this.#rates.recent(now).values()]
    const consumers = this.workers(now).map(({ id, running, lastSeen }) => ({
      name: id,
      pending: running,
      idle: Math.max(0, now - lastSeen),
    }))
    return {
      counts: totals,
      delayed,
      dependent,
      throughput: rates.reduce((sum, { throughput }) => sum + throughput, 0),
      concurrencyLimits: Object.fromEntries(limits.map((row) => [row.type, row.max_concurrency as number])),
      stream: { length: totals.pending + totals.processing, groups: streams.length, consumers, streams },
    }
  }

  /** @param types default all */
  #counts(types?: readonly string[]): Map<string, Map<string, number>> {
    const counts = new Map<string, Map<string, number>>()
    const rows = types?.flatMap((type) => this.#database.all('countsOf', type))
    for (const { type, status, n } of rows ?? this.#database.all('allCounts')) {
      const ofType = counts.get(type as string) ?? new Map<string, number>()
      counts.set(type as string, ofType.set(status as string, n as number))
    }
    return counts
  }

  #listNewest(query: ListQuery): Page {
    const { limit, status } = query
    const before = query.cursor === undefined ? Number.MAX_SAFE_INTEGER : readCursor(query.cursor, 1)[0]!
    const [where, values] = conditions(query)
    const window = this.#database.query(
      'SELECT seq FROM tasks WHERE seq < ? ORDER BY seq DESC LIMIT 1 OFFSET ?',
      before,
      EXAMINED_MAX,
    )
    // The statuses with an index of their own need no window.
    const ofBatch = query.batch !== undefined
    const indexed = ofBatch || status === 'processing' || (status !== undefined && status !== 'success')
    const from = indexed ? 0 : ((window[0]?.seq as number | undefined) ?? 0)
    let inStatus = status === undefined ? '' : `AND t.status IN ('${storedAs(status).join("', '")}')`
    // `+` stops the planner from scanning all tasks in order: tasks in flight, or of one batch, are few.
    const order = ofBatch || status === 'processing' ? '+t.seq' : 't.seq'
    if (indexed && !ofBatch && status !== 'processing') inStatus += ` AND ${UNSUCCESSFUL}`
    const sql = `${BARE} WHERE ${order} < ? AND ${order} >= ? ${inStatus} ${where} ORDER BY ${order} DESC LIMIT ?`
    const rows = this.#database.query(sql, before, from, ...values, limit)
    const tasks = this.#filled(rows, query)
    const more = rows.length === limit || tasks.length < rows.length
    const last = more ? (rows[tasks.length - 1]!.seq as number) : from
    return { tasks, nextCursor: last > 0 ? writeCursor([last]) : null }
  }

  /**
   * The ready ones by priority and age, type by type, merged; then the delayed ones by `run_at`, then by age those that
   * wait for others.
   */
  #listPending(query: ListQuery): Page {
    const { limit } = query
    const at = query.cursor === undefined ? [0, 10, 0, 0] : readCursor(query.cursor, 4)
    const [phase, priority, runAt, seq] = at as [number, number, number, number]
    const { type: _, status: __, ...beside } = query
    const [where, values] = conditions(beside)
    const rows: Row[] = []
    if (phase === 0) {
      const types = query.type ? [query.type] : [...this.#counts().keys()]
      const after = '(t.priority < ? OR (t.priority = ? AND (t.run_at > ? OR (t.run_at = ? AND t.seq > ?))))'
      for (const part of query.group === undefined ? [WITHOUT_GROUP, WITH_GROUP] : [WITH_GROUP]) {
        const sql = `${BARE} WHERE t.status = 'pending' AND t.type = ? ${part} AND ${after} ${where}
          ORDER BY t.priority DESC, t.run_at, t.seq LIMIT ?`
        for (const type of types) {
          rows.push(...this.#database.query(sql, type, priority, priority, runAt, runAt, seq, ...values, limit))
        }
      }
      rows.sort(
        (a, b) =>
          (b.priority as number) - (a.priority as number) ||
          (a.run_at as number) - (b.run_at as number) ||
          (a.seq as number) - (b.seq as number),
      )
      rows.splice(limit)
    }
    PUT_ASIDE.forEach(([status, time], index) => {
      if (rows.length === limit || phase > index + 1) return
      const [from, fromSeq] = phase === index + 1 ? [runAt, seq] : [0, 0]
      const [whereType, typeValues] = conditions(query)
      const sql = `${BARE} WHERE t.status = '${status}' AND (${time} > ? OR (${time} = ? AND t.seq > ?)) ${whereType}
        ORDER BY ${time}, t.seq LIMIT ?`
      rows.push(...this.#database.query(sql, from, from, fromSeq, ...typeValues, limit - rows.length))
    })
    const tasks = this.#filled(rows, query)
    const last = rows[tasks.length - 1]
    const more = (rows.length === limit || tasks.length < rows.length) && last !== undefined
    const lastPhase = PUT_ASIDE.findIndex(([status]) => status === last?.status) + 1
    const position = last && [lastPhase, last.priority, last[lastPhase === 2 ? 'created_at' : 'run_at'], last.seq]
    return { tasks, nextCursor: more ? writeCursor(position as number[]) : null }
  }

  /** The first of these tasks with their remaining columns, as many as a page has room for, and at least one. */
  #filled(rows: readonly Row[], { bare = false }: ListQuery): Task[] {
    if (bare) return rows.map(taskOf)
    const tasks: Task[] = []
    let bytes = 0
    for (const row of rows) {
      if (bytes >= PAGE_BYTES_MAX) break
      const parts = this.#database.get('longParts', row.seq!)!
      for (const part of Object.values(parts)) bytes += part === null ? 0 : (part as string).length
      tasks.push(taskOf({ ...row, ...parts }))
    }
    return tasks
  }
}

function holderOf(row: Row): Holder {
  return {
    taskId: row.id as string,
    workerId: row.worker_id as string,
    since: row.started_at as number,
    expiresAt: row.expires_at as number,
    group: groupOf(row.task_group),
  }
}

function conditions({ type, tag, group, batch }: TaskFilter): [where: string, values: Values] {
  const parts: string[] = []
  const values: Values = []
  if (type !== undefined) {
    parts.push('AND t.type = ?')
    values.push(type)
  }
  if (group !== undefined) {
    parts.push('AND t.task_group = ?')
    values.push(group)
  }
  if (batch !== undefined) {
    parts.push('AND t.batch = ?')
    values.push(batch)
  }
  if (tag !== undefined) {
    parts.push('AND EXISTS (SELECT 1 FROM json_each(t.tags) WHERE key = ? AND value = ?)')
    values.push(tag.key, tag.value)
  }
  return [parts.join(' '), values]
}

function writeCursor(position: readonly number[]): string {
  return Buffer.from(position.join(',')).toString('base64url')
}

function readCursor(cursor: string, parts: number): number[] {
  const texts = Buffer.from(cursor, 'base64url').toString().split(',')
  const position = texts.map(Number)
  if (texts.length !== parts || !texts.every((text) => /^\d{1,15}$/.test(text))) {
    throw new XQueueError(
      'invalid_cursor',
      `"${cursor.slice(0, 80)}" is not a cursor of this list: use next_cursor unchanged`,
    )
  }
  return position
}
