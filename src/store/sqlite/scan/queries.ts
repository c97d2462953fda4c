import { leaseLost, XQueueError } from '../../../task/errors.ts'
import type { BatchInfo, Predecessor } from '../../../task/flow.ts'
import { noCounts, publicStatus, RETRYABLE_STATUSES, type StoredStatus, storedAs } from '../../../task/status.ts'
import type { Task } from '../../../task/task.ts'
import { type ListQuery, type MatchQuery, PAGE_BYTES_MAX, type Page } from '../../store.ts'
import type { Database } from '../database/database.ts'
import type { Flows } from '../flows/flows.ts'
import {
  AT,
  BARE_TASKS,
  BARE_TASKS_LISTED,
  partBytesMax,
  stateOf,
  TASKS,
  TASKS_LISTED,
  taskOf,
  tokenOf,
} from '../records/rows.ts'
import { conditions, EXAMINED_MAX, idsWithin, WITH_GROUP, WITHOUT_GROUP } from './filter.ts'
import { PENDING_START, pendingPlaces } from './pending.ts'

/** Maximum number of tasks within the times of a filter that are read to find the first and the last one. */
const SPAN_MAX = 200_000
/** As in the condition of the index of these tasks. */
const UNSUCCESSFUL = `(${RETRYABLE_STATUSES.map((status) => `t.status = '${status}'`).join(' OR ')})`

/** The tasks that were accepted within the times of a filter lie between these two. */
interface Span {
  first: number
  last: number
  /** They are few enough to examine each of them for a page. */
  isShort: boolean
}

const EVERYTHING: Span = { first: 0, last: Number.MAX_SAFE_INTEGER - 1, isShort: false }

/** All read-only operations. */
export class Queries {
  readonly #database: Database
  readonly #flows: Flows

  constructor(database: Database, flows: Flows) {
    this.#database = database
    this.#flows = flows
  }

  get(ids: readonly string[], { bare = false } = {}): (Task | null)[] {
    const sql = `${bare ? BARE_TASKS : TASKS} WHERE t.id = ?`
    return ids.map((id) => {
      const [row] = this.#database.query(sql, id)
      return row ? taskOf(row) : null
    })
  }

  list(query: ListQuery): Page {
    return query.status === 'pending' && query.batch === undefined ? this.#listPending(query) : this.#listNewest(query)
  }

  matching({ filter, statuses, since, skip, max }: MatchQuery): string[] {
    const ids: string[] = []
    const [where, values] = conditions(filter)
    // Named as literals, so that SQLite uses the partial index of the status.
    const parts = statuses.flatMap(storedAs).flatMap((status) => {
      const inStatus = `t.status = '${status}'`
      if (status === 'pending') return [WITHOUT_GROUP, ...WITH_GROUP].map((part) => `${inStatus} ${part}`)
      if (status === 'processing') return [`${inStatus} AND t.cancel_at IS NULL`]
      return [publicStatus(status) === 'pending' ? inStatus : `${inStatus} AND ${UNSUCCESSFUL}`]
    })
    for (const part of parts) {
      const sql = `SELECT t.id FROM tasks t WHERE ${part} AND t.updated_at <= ? ${where} LIMIT 0 + ?`
      const left = skip + max - ids.length
      const rows = this.#database.query(sql, since ?? Number.MAX_SAFE_INTEGER, ...values, left)
      for (const [id] of rows) ids.push(id as string)
      if (ids.length >= skip + max) break
    }
    return ids.slice(skip)
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
    const { limit, status, batch } = query
    const cursor = query.cursor === undefined ? Number.MAX_SAFE_INTEGER : readCursor(query.cursor, 1)[0]!
    const [where, values] = conditions(query)
    const isFew = batch !== undefined || status === 'processing'
    const { first, last, isShort } = isFew ? EVERYTHING : this.#spanOf(query)
    const before = Math.min(cursor, last + 1)
    const isIndexed = status !== undefined && status !== 'success'
    let inStatus = status === undefined ? '' : `AND ${isShort ? '+' : ''}${isOneOf(storedAs(status))}`
    if (isIndexed && !isFew && !isShort) inStatus += ` AND ${UNSUCCESSFUL}`
    const isWhole = isFew || isShort || (where === '' && (isIndexed || status === undefined))
    const window = isWhole ? 0 : this.#examinedFrom(before, isIndexed ? inStatus : '')
    // `+` stops the planner from scanning all tasks in order: tasks in flight, of one batch or of a short time are few.
    const order = isFew || isShort ? '+t.seq' : 't.seq'
    const [ids, range] = isShort ? ['AND t.id >= ? AND t.id < ?', idsWithin(query)] : ['', []]
    const sql = `SELECT t.seq FROM tasks t WHERE ${order} < ? AND ${order} >= ? ${inStatus} ${ids} ${where}
      ORDER BY ${order} DESC LIMIT 0 + ?`
    const rows = this.#database.query(sql, before, Math.max(window, first), ...range, ...values, limit)
    const seqs = rows.map(([seq]) => seq as number)
    const tasks = this.#read(seqs, query)
    const more = seqs.length === limit || tasks.length < seqs.length
    const next = more ? seqs[tasks.length - 1]! : window
    return { tasks, nextCursor: next > first ? writeCursor([next]) : null }
  }

  /** Age of the last task that a page before this one examines, of all tasks or of those in a status with an index. */
  #examinedFrom(before: number, inStatus: string): number {
    const sql = `SELECT t.seq FROM tasks t WHERE t.seq < ? ${inStatus} ORDER BY t.seq DESC LIMIT 1 OFFSET 0 + ?`
    return (this.#database.query(sql, before, EXAMINED_MAX)[0]?.[0] as number | undefined) ?? 0
  }

  /** From the index of ids, which begin with the time; `seq` follows the times only while no clock is set back. */
  #spanOf(query: ListQuery): Span {
    const { createdAfter, createdBefore } = query
    if (createdAfter === undefined && createdBefore === undefined) return EVERYTHING
    const within = 'SELECT seq FROM tasks WHERE id >= ? AND id < ? LIMIT 0 + ?'
    const sql = `SELECT count(*) AS n, min(seq) AS first, max(seq) AS last FROM (${within})`
    const [n, first, last] = this.#database.query(sql, ...idsWithin(query), SPAN_MAX + 1)[0] as number[]
    if (n! > SPAN_MAX) return EVERYTHING
    return { first: first ?? 0, last: last ?? 0, isShort: n! <= EXAMINED_MAX }
  }

  #listPending(query: ListQuery): Page {
    const [phase, priority, time, seq] = query.cursor === undefined ? PENDING_START : readCursor(query.cursor, 4)
    const from = { phase: phase!, priority: priority!, time: time!, seq: seq! }
    const { places, ends } = pendingPlaces(this.#database, query, from, this.#spanOf(query).isShort)
    const seqs = places.map((place) => place.seq)
    const tasks = this.#read(seqs, query)
    const last = places[tasks.length - 1]
    const more = seqs.length === query.limit || tasks.length < seqs.length
    const next = more && last ? last : ends
    return { tasks, nextCursor: next && writeCursor([next.phase, next.priority, next.time, next.seq]) }
  }

  /** The first of these tasks, as many as a page has room for, and at least one. */
  #read(seqs: readonly number[], { bare = false }: ListQuery): Task[] {
    if (seqs.length === 0) return []
    const listed = JSON.stringify(seqs)
    if (bare) return this.#database.query(BARE_TASKS_LISTED, listed).map(taskOf)
    const partBytes = partBytesMax(PAGE_BYTES_MAX, seqs.length)
    const tasks: Task[] = []
    let bytes = 0
    for (const row of this.#database.query(TASKS_LISTED, listed, partBytes)) {
      if (bytes >= PAGE_BYTES_MAX) break
      const itsBytes = row[AT.bytes] as number
      bytes += itsBytes
      const isWhole = itsBytes <= partBytes
      tasks.push(taskOf(isWhole ? row : this.#database.query(`${TASKS} WHERE t.seq = ?`, row[AT.seq]!)[0]!))
    }
    return tasks
  }
}

/** With `=` where it is one, because `IN` would not use the partial index of running tasks. */
function isOneOf(statuses: readonly StoredStatus[]): string {
  const [first, ...others] = statuses
  return others.length === 0 ? `t.status = '${first}'` : `t.status IN ('${statuses.join("', '")}')`
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
