import type { TaskEvent } from '../../../task/event.ts'
import type { Json } from '../../../task/json.ts'
import { isStatus, type Status } from '../../../task/status.ts'
import { blanked, elementsOf } from '../../erasure.ts'
import type { StateEvent } from '../../state.ts'
import { idOf, idOfRef } from '../records/ids.ts'
import type { OutboxEntry } from './outbox-page.ts'

/** The fields of an event that a record contains; position, time and partition belong to its entry. */
type EventFields = Pick<StateEvent, 'taskId' | 'type' | 'status' | 'attempts'> & Partial<StateEvent>

const NOTHING = {
  kind: 'status',
  progress: null,
  result: null,
  error: null,
  timeoutReason: null,
  workerId: null,
} as const

/** The events of an entry of the outbox. */
export function* eventsOf(partition: number, { last, count, at, records }: OutboxEntry): Generator<StateEvent> {
  let number = last - count + 1
  for (const record of JSON.parse(records) as Json[][]) {
    for (const event of eventsIn(partition, record)) yield { ...NOTHING, id: String(number++), at, ...event }
  }
}

function eventsIn(partition: number, record: Json[]): Iterable<EventFields> {
  switch (record[0]) {
    case 'removed':
      return removed(partition, record as never)
    case 'accepted':
    case 'ticked':
      return accepted(partition, record as never)
    case 'started':
      return started(partition, record as never)
    case 'ended':
      return ended(partition, record as never)
    default:
      return changed(partition, record as never)
  }
}

function removed(
  partition: number,
  [, type, status, ref, attempts]: [string, string, Status, string, number],
): EventFields[] {
  return [{ taskId: idOfRef(partition, ref), type, status, attempts, kind: 'removed' }]
}

function* accepted(
  partition: number,
  [what, type, lane, first, tasks]: ['accepted' | 'ticked', string, number, string, number],
): Generator<EventFields> {
  const [ms = 0, n = 0] = first.split('-').map(Number)
  for (let index = 0; index < tasks; index++) {
    const event: EventFields = { taskId: idOf(partition, lane, ms, n + index), type, status: 'pending', attempts: 0 }
    yield what === 'ticked' ? { ...event, ofSchedule: true } : event
  }
}

function* started(
  partition: number,
  [, type, workerId, refs, attempts]: [string, string, string, string, string],
): Generator<EventFields> {
  const each = attempts.split(' ')
  for (const [index, ref] of refs.split(' ').entries()) {
    const taskId = idOfRef(partition, ref)
    yield { taskId, type, status: 'processing', attempts: Number(each[index]), workerId }
  }
}

function* ended(
  partition: number,
  [, type, workerId, status, refs, attempts, results]: [string, string, string, Status, string, string, Json[]],
): Generator<EventFields> {
  const each = attempts.split(' ')
  for (const [index, ref] of refs.split(' ').entries()) {
    const taskId = idOfRef(partition, ref)
    yield { taskId, type, status, attempts: Number(each[index]), workerId, result: results[index] ?? null }
  }
}

/** Every other record is of one task, and begins with its status or `progress`. */
function changed(
  partition: number,
  [what, type, workerId, ref, attempts, progress, result, error, reason]: [
    string,
    string,
    string | null,
    string,
    number,
    TaskEvent['progress'],
    Json,
    string | null,
    TaskEvent['timeoutReason'] | '',
  ],
): EventFields[] {
  const isChange = isStatus(what)
  const taskId = idOfRef(partition, ref)
  const status = isChange ? what : 'processing'
  const kind = isChange ? 'status' : 'progress'
  const timeoutReason = reason || null
  return [{ taskId, type, status, attempts, workerId, kind, progress, result, error, timeoutReason }]
}

/** Positions of progress, result and error in the record of one task, see `changed`. */
const CONTENTS = [5, 6, 7]

/**
 * Erases the contents of tasks in a record, given as the JSON of its elements: many tasks with the same end, or one.
 * Returns null if it has none of theirs.
 */
export function eraseRecord(record: string[], refs: ReadonlySet<string>): string[] | null {
  const [what, , , refOrStatus, ended, , results] = record
  if (what !== '"ended"') {
    return record.length > 5 && refs.has(JSON.parse(refOrStatus!) as string) ? blanked(record, CONTENTS) : null
  }
  const places = (JSON.parse(ended!) as string).split(' ').flatMap((ref, place) => (refs.has(ref) ? [place] : []))
  if (places.length === 0) return null
  return record.with(6, `[${blanked(elementsOf(results!), places).join(',')}]`)
}
