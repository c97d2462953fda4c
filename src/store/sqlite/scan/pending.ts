import type { ListQuery } from '../../store.ts'
import type { Database } from '../database/database.ts'
import {
  type Condition,
  conditions,
  EXAMINED_MAX,
  idsWithin,
  type Values,
  WITH_GROUP,
  WITHOUT_GROUP,
} from './filter.ts'

/** A place in the list of pending tasks: the ready ones have phase 0, each list of `PUT_ASIDE` the next one. */
export interface Place {
  phase: number
  priority: number
  time: number
  seq: number
}

/** As the numbers of a cursor. */
export const PENDING_START = [0, 10, 0, 0]

/** The lists of waiting tasks that follow the ready ones, and the time that orders each. */
const PUT_ASIDE = [
  ['delayed', 'run_at'],
  ['dependent', 'created_at'],
] as const

/** Tasks that a page examines of each type at least, so that pages do not get short because of many types. */
const EXAMINED_MIN = 1_000

/** An order in which places follow each other, and tasks that have it. */
interface List {
  phase: number
  /** The column of `time`. */
  time: 'run_at' | 'created_at'
  of: readonly Condition[]
}

/**
 * The ready ones by priority and age, type by type, merged; then the delayed ones by `run_at`, then by age those that
 * wait for others. If the tasks that a page may examine end it, `ends` is the place after which it continues.
 *
 * @param isShort the filter has times with few tasks, which are read by id
 */
export function pendingPlaces(
  database: Database,
  query: ListQuery,
  from: Place,
  isShort: boolean,
): { places: Place[]; ends: Place | null } {
  const places: Place[] = []
  for (const list of listsOf(database, query, isShort)) {
    if (list.phase < from.phase) continue
    const start = list.phase === from.phase ? from : { phase: list.phase, priority: 10, time: 0, seq: 0 }
    const limit = query.limit - places.length
    const ends = isShort ? null : lastExamined(database, list, query, start)
    const [where, values] = conditions(query)
    const [ids, range] = isShort ? ['AND t.id >= ? AND t.id < ?', idsWithin(query)] : ['', []]
    const [after, afterValues] = isAfter(list, start)
    const [until, untilValues]: Condition = ends ? isAfter(list, ends, 'NOT') : ['', []]
    const found = list.of.flatMap(([of, ofValues]) => {
      const bound = [...ofValues, ...afterValues, ...untilValues, ...range, ...values, limit]
      return placesOf(database, list, `WHERE ${of} ${after} ${until} ${ids} ${where}`, 'LIMIT 0 + ?', bound)
    })
    found.sort(compare)
    places.push(...found.slice(0, limit))
    if (places.length === query.limit) break
    if (ends) return { places, ends }
  }
  return { places, ends: null }
}

/** Places of tasks of a list that meet a condition, in its order. */
function placesOf(database: Database, list: List, where: string, limit: string, values: Values): Place[] {
  const { phase, time } = list
  const sql = `SELECT t.priority, t.${time}, t.seq FROM tasks t ${where} ORDER BY ${orderOf(list)} ${limit}`
  const rows = database.query(sql, ...values) as [priority: number, time: number, seq: number][]
  return rows.map(([priority, at, seq]) => ({ phase, priority, time: at, seq }))
}

function listsOf(database: Database, query: ListQuery, isShort: boolean): List[] {
  const aside = PUT_ASIDE.map(
    ([status, time], index): List => ({
      phase: index + 1,
      time,
      of: [[`${isShort ? '+' : ''}t.status = '${status}'`, []]],
    }),
  )
  if (isShort) return [{ phase: 0, time: 'run_at', of: [["+t.status = 'pending'", []]] }, ...aside]
  const types = query.type ? [query.type] : database.all('countedTypes').map((row) => row.type as string)
  const parts = query.group === undefined ? [WITHOUT_GROUP, ...WITH_GROUP] : WITH_GROUP
  const of = parts.flatMap((part) =>
    types.map((type): Condition => [`t.status = 'pending' AND t.type = ? ${part}`, [type]]),
  )
  return [{ phase: 0, time: 'run_at', of }, ...aside]
}

/** The place of the last task that a page may examine; null if it may examine all, or need not examine any. */
function lastExamined(database: Database, list: List, query: ListQuery, start: Place): Place | null {
  const { type: _, ...beside } = query
  if (conditions(list.phase === 0 ? beside : query)[0] === '') return null
  const examined = Math.max(Math.ceil(EXAMINED_MAX / list.of.length), EXAMINED_MIN)
  const [after, values] = isAfter(list, start)
  const places = list.of.flatMap(([of, ofValues]) => {
    return placesOf(database, list, `WHERE ${of} ${after}`, 'LIMIT 1 OFFSET 0 + ?', [...ofValues, ...values, examined])
  })
  return places.sort(compare)[0] ?? null
}

function isAfter({ phase, time }: List, { priority, time: at, seq }: Place, not = ''): Condition {
  const byTime = `(t.${time} > ? OR (t.${time} = ? AND t.seq > ?))`
  if (phase > 0) return [`AND ${not} ${byTime}`, [at, at, seq]]
  return [`AND ${not} (t.priority < ? OR (t.priority = ? AND ${byTime}))`, [priority, priority, at, at, seq]]
}

function orderOf({ phase, time }: List): string {
  return phase === 0 ? 't.priority DESC, t.run_at, t.seq' : `t.${time}, t.seq`
}

function compare(a: Place, b: Place): number {
  const byPriority = a.phase === 0 ? b.priority - a.priority : 0
  return byPriority || a.time - b.time || a.seq - b.seq
}
