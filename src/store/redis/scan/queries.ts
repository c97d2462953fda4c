import { attemptOf, type KeptAttempts } from '../../../task/attempt.ts'
import { leaseLost, XQueueError } from '../../../task/errors.ts'
import type { BatchInfo, Predecessor } from '../../../task/flow.ts'
import type { StoredLine, StoredLog } from '../../../task/log-line.ts'
import { isFinal, noCounts, type Status } from '../../../task/status.ts'
import type { Task } from '../../../task/task.ts'
import { CHANGES_MAX, type ListQuery, type Matching, type MatchQuery, PAGE_BYTES_MAX, type Page } from '../../store.ts'
import type { Database } from '../client/database.ts'
import type { Inspection } from '../inspect/inspection.ts'
import { pairs } from '../inspect/who.ts'
import { idOfName, nameOf as nameOfPlace, placeOf } from '../records/ids.ts'
import { type FoundReply, predecessorOf, readFound, taskOf } from '../records/rows.ts'

/** Maximum number of tasks that a page examines, and a script at once, regardless of how few match the filter. */
const EXAMINED_MAX = 50_000
const BATCH_MAX = 500
/** Tasks whose attempts are read in one step: they may have 64 KiB each. */
const ATTEMPTS_OF_MAX = 50
const AHEAD_MAX = 10_000

/** One order of tasks in one partition, see scan.lua. */
interface Source {
  partition: number
  order: string
}

/** With `unasked`, only those running tasks that have no cancel request. */
type Query = ListQuery & { unasked?: boolean }

/** Sources whose tasks are merged, by the first part of their positions. */
interface Step {
  sources: Source[]
  newestFirst: boolean
}

/** The number of tasks that a page may still examine, and bytes that it may still read. */
interface Budget {
  tasks: number
  bytes: number
}

/** The answer of scan.lua. */
type ScanReply = [next: string, isCut: string, read: number, tasks: [ref: string, place: string, ...FoundReply][]]

/** What a page has read of a source. */
interface Walk {
  source: Source
  items: Item[]
  reached: string
  /** The bytes ended it. */
  isCut: boolean
  /** The number of examined tasks ended it. */
  isShort: boolean
}

interface Item {
  task: Task
  /** The position after it. */
  place: string
  /** Its place in the order of all sources: the first part of the position. */
  key: string
}

/**
 * The position of a list: a step, and a position in each of its sources; `$` for a source that has ended. Where they
 * are many, only that of the last task remains, and the others continue after its key, `ALL`.
 */
interface Cursor {
  step: number
  places: Record<string, string>
}

/** A position needs about 50 characters, and a third more in base64. */
const PLACES_CHARS_MAX = 4_000
const ALL = '*'

const END = '$'

/** The cursor of `matching` for a search from the beginning. */
const AGAIN = ''

/** Reads a cursor of `matching`: how many tasks are still to be skipped, the status, and the cursor in its list. */
function readMatching(cursor: string): { left: number; at: number; position: string } {
  const [left, at, position = ''] = cursor.split(' ')
  return { left: Number(left), at: Number(at), position }
}

/** All operations that only read tasks. */
export class Queries {
  readonly #database: Database
  readonly #inspection: Inspection

  constructor(database: Database, inspection: Inspection) {
    this.#database = database
    this.#inspection = inspection
  }

  async get(ids: readonly string[], { bare = false } = {}): Promise<(Task | null)[]> {
    const found = await this.find(ids, bare)
    return ids.map((id) => found.get(id)?.task ?? null)
  }

  /** Tasks by their ids, with the predecessors that they still wait for. */
  async find(ids: readonly string[], bare = false): Promise<Map<string, { task: Task; waitsFor: string[] }>> {
    const found = new Map<string, { task: Task; waitsFor: string[] }>()
    const places = ids.flatMap((id) => {
      const place = placeOf(id)
      return place ? [{ id, ...place }] : []
    })
    for (const [partition, group] of Map.groupBy(places, (place) => place.partition)) {
      for (let from = 0; from < group.length; from += BATCH_MAX) {
        const some = group.slice(from, from + BATCH_MAX)
        const args = [bare ? '1' : '', some.length, ...some.map(({ ref }) => ref)]
        const answers = await this.#database.run<(FoundReply | null)[]>('get', partition, args)
        answers.forEach((answer, index) => {
          const { id, ref } = some[index]!
          if (!answer) return
          const task = readFound(answer)
          const waitsFor = task.where === 'dependent' && task.more !== '' ? task.more.split(' ').map(idOfName) : []
          found.set(id, { task: taskOf(partition, ref, task), waitsFor })
        })
      }
    }
    return found
  }

  /** The tasks that the end of a task has not released, oldest first. */
  async successors(id: string, max: number): Promise<string[]> {
    const place = placeOf(id)
    const ids: string[] = []
    for (let behind: string | null = ''; place && behind !== null && ids.length < max; ) {
      const args: (string | number)[] = [place.ref, behind, max]
      const [last, ...names] = await this.#database.run<string[]>('successors', place.partition, args)
      const some = names.map(idOfName)
      const kept = await this.find(some, true)
      ids.push(...some.filter((one) => kept.has(one)))
      behind = last || null
    }
    return ids.slice(0, max)
  }

  async attempts(ids: readonly string[]): Promise<KeptAttempts[]> {
    const kept = new Map<string, KeptAttempts>()
    const places = ids.flatMap((id) => {
      const place = placeOf(id)
      return place ? [{ id, ...place }] : []
    })
    for (const [partition, group] of Map.groupBy(places, (place) => place.partition)) {
      for (let from = 0; from < group.length; from += ATTEMPTS_OF_MAX) {
        const some = group.slice(from, from + ATTEMPTS_OF_MAX)
        const args = [some.length, ...some.map(({ ref }) => ref)]
        const answers = await this.#database.run<[number, string[]][]>('attempts', partition, args)
        answers.forEach(([leftOut, texts], index) => {
          kept.set(some[index]!.id, { attempts: texts.map(attemptOf), leftOut })
        })
      }
    }
    return ids.map((id) => kept.get(id) ?? { attempts: [], leftOut: 0 })
  }

  async logs(id: string, after: number, max: number): Promise<StoredLog> {
    const place = placeOf(id)
    if (!place) return { lines: [], leftOut: 0 }
    const { partition, ref } = place
    const [leftOut, texts] = await this.#database.run<[number, string[]]>('logs', partition, [ref, after, max])
    const lines = texts.flatMap((text): StoredLine[] => {
      const [head = '', ...bodies] = text.split('\n')
      const [last, count, delivery, attempt, , ...start] = head.split('|')
      const first = Number(last) - Number(count) + 1
      const numbers = { delivery: Number(delivery), attempt: Number(attempt) }
      return [start.join('|'), ...bodies].map((line, at) => ({ n: first + at, ...numbers, text: line }))
    })
    return { lines: lines.filter(({ n }) => n > after).slice(0, max), leftOut }
  }

  async list(query: Query): Promise<Page> {
    const cursor = query.cursor === undefined ? { step: 0, places: {} } : readCursor(query.cursor)
    const steps = await this.#steps(query)
    const tasks: Task[] = []
    const budget = { tasks: EXAMINED_MAX, bytes: PAGE_BYTES_MAX }
    while (tasks.length < query.limit && cursor.step < steps.length && budget.tasks > 0 && budget.bytes > 0) {
      const step = steps[cursor.step]!
      tasks.push(...(await this.#merge(step, query, query.limit - tasks.length, cursor.places, budget)))
      if (step.sources.some((source) => cursor.places[nameOf(source)] !== END)) continue
      cursor.step += 1
      cursor.places = {}
    }
    return { tasks, nextCursor: cursor.step < steps.length ? writeCursor(cursor) : null }
  }

  /**
   * Continues behind the tasks that it has found before, so that it examines each once. Tasks that have ended keep
   * their places; others may move to a place that was passed, so a search of several calls begins again at its end.
   */
  async matching({ filter, statuses, since, skip, max, cursor }: MatchQuery): Promise<Omit<Matching, 'at'>> {
    let { left, at, position } = cursor ? readMatching(cursor) : { left: skip, at: 0, position: '' }
    const isWhole = at === 0 && position === ''
    const ids: string[] = []
    while (at < statuses.length && ids.length < max) {
      const from = position === '' ? {} : { cursor: position }
      const limit = Math.min(left + max - ids.length, CHANGES_MAX)
      const page = await this.list({ ...filter, status: statuses[at]!, unasked: true, limit, bare: true, ...from })
      const found = page.tasks.filter(({ updatedAt }) => since === null || updatedAt <= since)
      ids.push(...found.slice(left).map(({ id }) => id))
      left = Math.max(left - found.length, 0)
      position = page.nextCursor ?? ''
      if (position === '') at += 1
    }
    if (at < statuses.length) return { ids, nextCursor: `${left} ${at} ${position}` }
    return { ids, nextCursor: isWhole || statuses.every(isFinal) ? null : AGAIN }
  }

  /** @throws XQueueError `lease_lost` */
  async predecessor(lease: string, id: string): Promise<Predecessor | null> {
    const end = lease.lastIndexOf('.')
    const [place, other] = [placeOf(lease.slice(0, end)), placeOf(id)]
    if (!place || place.partition >= this.#database.count) throw leaseLost(lease)
    const args = [place.ref, lease.slice(end + 1), other ? nameOfPlace(other) : '']
    const outcome = await this.#database.run<string>('outcome', place.partition, args)
    if (outcome === 'lost') throw leaseLost(lease)
    return outcome === '' ? null : predecessorOf(id, JSON.parse(outcome))
  }

  async batch(name: string): Promise<BatchInfo | null> {
    const counts = noCounts()
    const totals = await this.#database.partitions.each(async (partition) => {
      for (let from = 0; ; from += BATCH_MAX) {
        const args = [name, from, BATCH_MAX]
        const [total, here] = await this.#database.run<[number, (string | number)[]]>('batch', partition, args)
        for (const [status, tasks] of pairs(here)) counts[status as Status] += tasks
        if (from + BATCH_MAX >= total) return total
      }
    })
    const total = totals.reduce((sum, here) => sum + here, 0)
    return total === 0 ? null : { batch: name, total, counts }
  }

  /** The number of tasks of its type that run before a ready task, counted up to a bound. */
  ahead(id: string): Promise<number> {
    const { partition, ref } = placeOf(id)!
    return this.#database.run<number>('ahead', partition, [ref, AHEAD_MAX])
  }

  async #steps({ status, type, batch, unasked = false }: Query): Promise<Step[]> {
    const partitions = type === undefined ? await this.#database.partitions.used() : [this.#database.partitionOf(type)]
    const everywhere = (order: string, newestFirst = true): Step => ({
      sources: partitions.map((partition) => ({ partition, order })),
      newestFirst,
    })
    if (batch !== undefined) return [everywhere('batch')]
    if (status === undefined) return [everywhere('index')]
    if (status === 'processing') return [everywhere(unasked ? 'unasked' : 'running')]
    if (status !== 'pending') return [everywhere(`done:${status}`)]
    const lanes: Source[] = []
    for (const partition of partitions) {
      for (const lane of await this.#inspection.lanes(partition, type)) lanes.push({ partition, order: `lane:${lane}` })
    }
    const priorities = [...new Set(lanes.map(({ order }) => order.at(-1)!))].sort().reverse()
    const ready = priorities.map((priority) => ({
      sources: lanes.filter(({ order }) => order.endsWith(priority)),
      newestFirst: false,
    }))
    return [...ready, everywhere('delayed', false), everywhere('dependent', false)]
  }

  /** The next tasks over the sources of a step; advances `places` past them. */
  async #merge(
    { sources, newestFirst }: Step,
    filter: Omit<Query, 'limit' | 'cursor'>,
    want: number,
    places: Cursor['places'],
    budget: Budget,
  ): Promise<Task[]> {
    const walks: Walk[] = []
    const bytes = Math.ceil(budget.bytes / sources.length)
    for (const source of sources) {
      walks.push(await this.#walk(source, filter, want, placeIn(places, source), { budget, bytes }))
    }
    const sign = newestFirst ? -1 : 1
    const items = walks.flatMap(({ items }) => items)
    items.sort((a, b) => (a.key === b.key ? 0 : a.key < b.key ? -sign : sign))
    // If the byte limit has ended a walk, tasks after its last one must not be returned before the rest of it.
    const ends = walks.flatMap(({ items: found, isCut }) => (isCut ? found.slice(-1) : []))
    const firstEnd = Math.min(...ends.map((item) => items.indexOf(item) + 1))
    const taken = new Set(items.slice(0, Math.min(want, firstEnd)))
    for (const { source, items: found, reached } of walks) {
      const last = found.filter((item) => taken.has(item)).at(-1)
      if (found.every((item) => taken.has(item))) places[nameOf(source)] = reached
      else if (last) places[nameOf(source)] = last.place
    }
    const last = [...taken].at(-1)
    if (last && JSON.stringify(places).length > PLACES_CHARS_MAX) shorten(places, last, walks)
    return [...taken].map(({ task }) => task)
  }

  async #walk(
    source: Source,
    query: Omit<Query, 'limit' | 'cursor'>,
    want: number,
    from: string | undefined,
    { budget, bytes }: { budget: Budget; bytes: number },
  ): Promise<Walk> {
    const { type, tag, group, batch, status, unasked = false, bare = false } = query
    const { createdAfter = '', createdBefore = '', error = '' } = query
    const items: Item[] = []
    let [bytesLeft, isCut] = [bytes, false]
    let reached = from ?? ''
    // All tasks of an order are on its page, except for those that have just left it.
    const isFiltered = [type, tag, group, batch, createdAfter, createdBefore, error].some((part) => part)
    let most = isFiltered ? BATCH_MAX : Math.min(want, BATCH_MAX)
    const tagJson = tag ? `${JSON.stringify(tag.key)}:${JSON.stringify(tag.value)}` : ''
    while (items.length < want && reached !== END && budget.tasks > 0 && !isCut) {
      const wanted = unasked && status === 'processing' ? 'unasked' : (status ?? '')
      const filter = [type ?? '', tagJson, group ?? '', batch ?? '', wanted, bare ? '1' : '', bytesLeft]
      const more = [createdAfter, createdBefore, error]
      const args = [source.order, reached, most, want - items.length, ...filter, ...more]
      most = BATCH_MAX
      const [next, cut, read, answers] = await this.#database.run<ScanReply>('scan', source.partition, args)
      budget.tasks -= Math.max(read, 1)
      for (const [ref, place, ...answer] of answers) {
        const found = readFound(answer)
        const itsBytes = Buffer.byteLength(found.text) + Buffer.byteLength(found.more)
        bytesLeft -= itsBytes
        budget.bytes -= itsBytes
        items.push({ task: taskOf(source.partition, ref, found), place, key: place.split(' ', 1)[0]! })
      }
      reached = next === '' ? END : next
      isCut = reached !== END && (cut === '1' || bytesLeft <= 0)
    }
    return { source, items, reached, isCut, isShort: reached !== END && !isCut && items.length < want }
  }
}

function nameOf({ partition, order }: Source): string {
  return `${partition} ${order}`
}

/** The second part of a position is of its source alone; no task of another source has this one. */
function placeIn(places: Cursor['places'], source: Source): string | undefined {
  const [own, all] = [places[nameOf(source)], places[ALL]]
  if (own !== undefined || all === undefined) return own
  return /^(?:delayed$|done:)/.test(source.order) ? `${all} 0` : all
}

/** What comes before the last task of a page was returned from each source, unless the page ended a walk early. */
function shorten(places: Cursor['places'], last: Item, walks: readonly Walk[]): void {
  const own = walks.find(({ items }) => items.includes(last))!
  const isAlone = walks.every((walk) => walk === own || walk.items.every(({ key }) => key !== last.key))
  if (!isAlone || own.source.order === 'batch' || walks.some(({ isShort }) => isShort)) return
  for (const name of Object.keys(places)) delete places[name]
  places[ALL] = last.key
  places[nameOf(own.source)] = last.place
}

function writeCursor(cursor: Cursor): string {
  return Buffer.from(JSON.stringify([cursor.step, cursor.places])).toString('base64url')
}

function readCursor(text: string): Cursor {
  try {
    const [step, places] = JSON.parse(Buffer.from(text, 'base64url').toString()) as [unknown, unknown]
    const isPlace = (place: unknown) => typeof place === 'string' && /^[\w$.: -]{0,80}$/.test(place)
    if (Number.isInteger(step) && (step as number) >= 0 && Object.values(places as object).every(isPlace)) {
      return { step: step as number, places: places as Cursor['places'] }
    }
  } catch {
    // Reported below.
  }
  const detail = `"${text.slice(0, 80)}" is not a cursor of this list: use next_cursor unchanged`
  throw new XQueueError('invalid_cursor', detail)
}
