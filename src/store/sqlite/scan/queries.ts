import { leaseLost, XQueueError } from '../../../task/errors.ts'
import type { BatchInfo, Predecessor } from '../../../task/flow.ts'
import { noCounts, publicStatus, RETRYABLE_STATUSES, type StoredStatus, storedAs } from '../../../task/status.ts'
import type { Task } from '../../../task/task.ts'
import { type ListQuery, type MatchQuery, PAGE_BYTES_MAX, type Page, type TaskFilter } from '../../store.ts'
import type { Database, Row } from '../database/database.ts'
import type { Flows } from '../flows/flows.ts'
import { stateOf, taskOf, tokenOf } from '../records/rows.ts'

/** Maximum number of tasks that a page examines, regardless of how few of them match the filter. */
const EXAMINED_MAX = 50_000
/** All columns of a task except those that may be long, which are read only for the tasks that a page has room for. */
const BARE = `SELECT t.seq, t.id, t.type, t.status, t.priority, t.attempts, t.deliveries, t.max_retry,
  t.queue_timeout_ms, t.process_timeout_ms, t.timeout_reason, t.created_at, t.run_at, t.started_at,
  t.updated_at, t.completed_at, t.worker_id, t.tags, t.idempotency_key, t.task_group, t.uses, t.waits_for, t.on_failure,
  t.batch, CASE WHEN length(t.progress) <= 24 THEN t.progress END AS progress,
  NULL AS result, NULL AS error, 'null' AS payload FROM tasks t`
/** The ready tasks in three parts, each in order of priority and age in an index. */
const WITHOUT_GROUP = "AND t.task_group = ''"
const WITH_GROUP = ["AND t.task_group <> '' AND t.lone = 0", "AND t.task_group <> '' AND t.lone = 1"]
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
  readonly #flows: Flows

  constructor(database: Database, flows: Flows) {
    this.#database = database
    this.#flows = flows
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
      if (status === 'pending') return [WITHOUT_GROUP, ...WITH_GROUP].map((part) => `${inStatus} ${part}`)
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
      counts[publicStatus(status as StoredStatus)] += n as number
    return { batch: name, total: batch.total as number, counts }
  }

  #listNewest(query: ListQuery): Page {
    const { limit, status } = query
    const before = query.cursor === undefined ? Number.MAX_SAFE_INTEGER : readCursor(query.cursor, 1)[0]!
    const [where, values] = conditions(query)
    const ofBatch = query.batch !== undefined
    const indexed = ofBatch || status === 'processing' || (status !== undefined && status !== 'success')
    // The statuses with an index of their own need no window, and neither does a list of all tasks.
    const from = indexed || (status === undefined && where === '') ? 0 : this.#examinedFrom(before)
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

  /** Age of the last task that a page before this one examines. */
  #examinedFrom(before: number): number {
    const sql = 'SELECT seq FROM tasks WHERE seq < ? ORDER BY seq DESC LIMIT 1 OFFSET ?'
    return (this.#database.query(sql, before, EXAMINED_MAX)[0]?.seq as number | undefined) ?? 0
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
      const types = query.type ? [query.type] : this.#database.all('countedTypes').map((row) => row.type as string)
      const after = '(t.priority < ? OR (t.priority = ? AND (t.run_at > ? OR (t.run_at = ? AND t.seq > ?))))'
      for (const part of query.group === undefined ? [WITHOUT_GROUP, ...WITH_GROUP] : WITH_GROUP) {
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
    const seqs = rows.map(({ seq }) => seq)
    let [count, bytes] = [0, 0]
    for (const [length] of this.#database.arrays('longBytes', JSON.stringify(seqs))) {
      if (bytes >= PAGE_BYTES_MAX) break
      bytes += length as number
      count += 1
    }
    const parts = this.#database.arrays('longParts', JSON.stringify(seqs.slice(0, count)))
    return parts.map(([progress, result, error, payload], index) =>
      taskOf(Object.assign(rows[index]!, { progress, result, error, payload })),
    )
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
    parts.push("AND t.task_group >= ? AND t.task_group < ? || ' '")
    values.push(group, group)
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
