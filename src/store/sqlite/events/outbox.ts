import type { TaskEvent } from '../../../task/event.ts'
import { blanked, elementsOf, withoutContents } from '../../erasure.ts'
import { LATE_READER_MS } from '../../options.ts'
import { type EventsPage, type EventsQuery, PAGE_BYTES_MAX, type StoreOptions } from '../../store.ts'
import type { Database } from '../database/database.ts'
import type { Tx } from '../database/writer.ts'
import { eventsOf } from '../records/rows.ts'

/** Positions of progress, result and error in an event. */
const CONTENTS = [5, 6, 7]
/** The second field of an event names its task. */
const SECOND_FIELD = /^\[\s*"[^"]*"\s*,\s*("[^"]*")/

/** The number of an event; empty for the position before the first one. */
const POSITION = /^\d{0,16}$/

/** Rows that one sweep removes; each may hold 500 events. */
const ROWS_DROPPED_MAX = 100

/** Runs a read that shows only durable events. */
type Read = <T>(work: (now: number) => T) => Promise<T>

/** Reads the events. */
export class Outbox {
  readonly #database: Database
  readonly #read: Read
  readonly #waiting = new Set<() => void>()
  #closed = false

  constructor(database: Database, read: Read) {
    this.#database = database
    this.#read = read
  }

  get isWaitedFor(): boolean {
    return this.#waiting.size > 0
  }

  /** There may be new events: waiting readers check again. */
  wake(): void {
    for (const wakeReader of [...this.#waiting]) wakeReader()
  }

  /** Removes events above the maximum count, bytes or age; true when there may be more of them. */
  drop(now: number, { eventsMax, eventsAgeMs, eventsBytesMax }: StoreOptions): boolean {
    const bounds = [eventsMax, now - eventsAgeMs, eventsBytesMax]
    return this.#database.run('dropEvents', ...bounds, ROWS_DROPPED_MAX) === ROWS_DROPPED_MAX
  }

  /** Whether all events are within these limits, as far as the oldest and the newest event show. */
  isWithin({ eventsMax, eventsAgeMs, eventsBytesMax }: StoreOptions, now: number): boolean {
    const oldest = this.#database.get('firstEvents')
    const newest = this.#database.get('lastEvents')
    if (!oldest || !newest || oldest.first === newest.last) return true
    const bytes = (newest.total as number) - (oldest.before as number)
    const isYoung = (oldest.at as number) > now - eventsAgeMs
    return isYoung && (newest.last as number) - (oldest.first as number) < eventsMax && bytes <= eventsBytesMax
  }

  /** Removes the contents of the events of tasks, except their statuses, in one pass: an entry may name all of them. */
  erase(tx: Tx, tasks: readonly { id: string; createdAt: number; completedAt: number }[]): void {
    if (tasks.length === 0) return
    const names = new Set(tasks.map(({ id }) => `"${id}"`))
    const from = tasks.reduce((least, { createdAt }) => Math.min(least, createdAt), Number.POSITIVE_INFINITY)
    const to = tasks.reduce((most, { completedAt }) => Math.max(most, completedAt), 0)
    const isErased = (event: string) => names.has(SECOND_FIELD.exec(event)?.[1] ?? '')
    for (const { last, body } of tx.database.all('eventsNaming', commonStart([...names]), from, to)) {
      const erased = withoutContents(body as string, (event) =>
        isErased(event) ? blanked(elementsOf(event), CONTENTS) : null,
      )
      if (erased !== body) tx.database.run('rewriteEvents', erased, last!)
    }
  }

  close(): void {
    this.#closed = true
    this.wake()
  }

  async events(query: EventsQuery): Promise<EventsPage> {
    const { after, max, waitMs = 0, signal } = query
    const from = after ?? (await this.#read(() => this.#last()))
    return this.#from(from, max, waitMs, signal)
  }

  async #from(position: string, max: number, waitMs: number, signal: AbortSignal | undefined): Promise<EventsPage> {
    const page = await this.#next(position, max)
    if (page.events.length > 0 || page.gap || waitMs <= 0 || signal?.aborted || this.#closed) return page
    await wait(this.#waiting, waitMs, signal)
    return this.#closed ? page : this.#next(page.last, max)
  }

  /** The next events, without those of removed tasks. */
  async #next(position: string, max: number): Promise<EventsPage> {
    for (let from = position; ; ) {
      const page = await this.#read((now) => this.#after(from, max, now))
      if (page.events.length > 0 || page.gap || page.last === from || this.#closed) return page
      from = page.last
    }
  }

  #last(): string {
    return String(this.#database.get('lastEvent')!.last)
  }

  #after(position: string, max: number, now: number): EventsPage {
    const last = Number(this.#last())
    const after = POSITION.test(position) ? Number(position) : Number.NaN
    // The position is from before the file was replaced, or of another store: continue from now.
    if (!(after <= last)) return { events: [], last: String(last), gap: true }
    const first = (this.#database.get('firstEvents')?.first as number | undefined) ?? last + 1
    const events: TaskEvent[] = []
    // Row by row, so that only rows of the page are read.
    let bytes = 0
    for (const row of last > after ? this.#database.each('eventsAfter', after) : []) {
      events.push(...eventsOf(row, after, max - events.length))
      bytes += (row.body as string).length
      if (events.length === max || bytes >= PAGE_BYTES_MAX) break
    }
    const gap = position !== '' && after < first - 1
    return { events: this.#ofKept(events, now), last: events.at(-1)?.id ?? position, gap }
  }

  /** Omits the events of removed tasks. Only events from before the last end of a removed task can be of one. */
  #ofKept(events: readonly TaskEvent[], now: number): TaskEvent[] {
    const until = Math.min(this.#database.get('endedUntil')!.until as number, now - LATE_READER_MS)
    const ids = new Set(events.flatMap(({ at, kind, taskId }) => (at > until || kind === 'removed' ? [] : [taskId])))
    const removed = ids.size === 0 ? [] : this.#database.all('notKept', JSON.stringify([...ids]))
    if (removed.length === 0) return [...events]
    const gone = new Set(removed.map(({ id }) => id))
    return events.filter(({ kind, taskId }) => kind === 'removed' || !gone.has(taskId))
  }
}

/** Resolves when a caller calls the function added to `waiting`, when the time is over, or when the signal fires. */
function wait(waiting: Set<() => void>, waitMs: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', done)
      waiting.delete(done)
      resolve()
    }
    const timer = setTimeout(done, waitMs)
    signal?.addEventListener('abort', done, { once: true })
    waiting.add(done)
  })
}

/** The characters with which all texts begin. */
function commonStart(texts: readonly string[]): string {
  const sorted = texts.toSorted()
  const [first, last] = [sorted[0]!, sorted.at(-1)!]
  let length = 0
  while (length < first.length && first[length] === last[length]) length += 1
  return first.slice(0, length)
}
