import type { TaskFilter } from '../../store.ts'

/** Maximum number of tasks that a page examines, regardless of how few of them match the filter. */
export const EXAMINED_MAX = 50_000

/** The ready tasks in three parts, each in order of priority and age in an index. */
export const WITHOUT_GROUP = "AND t.task_group = ''"
export const WITH_GROUP = ["AND t.task_group <> '' AND t.lone = 0", "AND t.task_group <> '' AND t.lone = 1"]

export type Values = (string | number)[]

/** A part of a condition, empty or beginning with AND, and its values. */
export type Condition = [where: string, values: Values]

/** The condition of a filter, except for its status. */
export function conditions({ type, tag, group, batch, createdAfter, createdBefore, error }: TaskFilter): Condition {
  const parts: string[] = []
  const values: Values = []
  const add = (part: string, ...more: Values) => {
    parts.push(`AND ${part}`)
    values.push(...more)
  }
  if (type !== undefined) add('t.type = ?', type)
  if (group !== undefined) add("t.task_group >= ? AND t.task_group < ? || ' '", group, group)
  if (batch !== undefined) add('t.batch = ?', batch)
  if (createdAfter !== undefined) add('t.created_at >= ?', createdAfter)
  if (createdBefore !== undefined) add('t.created_at < ?', createdBefore)
  if (tag !== undefined) add('EXISTS (SELECT 1 FROM json_each(t.tags) WHERE key = ? AND value = ?)', tag.key, tag.value)
  // The error is the last condition: it may be long. SQLite changes the case of ASCII letters only.
  if (error !== undefined) add('t.error IS NOT NULL AND instr(lower(t.error), lower(?)) > 0', error)
  return [parts.join(' '), values]
}

/** The ids of tasks that were accepted within the times of a filter: an id begins with that time. */
export function idsWithin({ createdAfter = 0, createdBefore = TIME_MAX }: TaskFilter): [from: string, to: string] {
  return [idAt(createdAfter), idAt(createdBefore)]
}

/** Of a UUIDv7, which has 48 bits for the time. */
const TIME_MAX = 2 ** 48 - 1

function idAt(ms: number): string {
  const time = Math.min(Math.max(Math.ceil(ms), 0), TIME_MAX)
    .toString(16)
    .padStart(12, '0')
  return `${time.slice(0, 8)}-${time.slice(8)}`
}
