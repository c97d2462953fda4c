import type { TaskEvent } from '../../task/event.ts'
import { blanked, withoutContents } from '../erasure.ts'
import { LATE_READER_MS } from '../options.ts'
import { type EventsPage, type EventsQuery, type EventsReader, PAGE_BYTES_MAX, type StoreOptions } from '../store.ts'
import type { Database } from './database.ts'
import { eventsOf } from './rows.ts'
import type { Tx } from './writer.ts'

/** Interval at which a reader checks whether another owner's lease has become free. */
const CHECK_AGAIN_MS = 250

/** Positions of progress, result and error in an event. */
const CONTENTS = [5, 6, 7]

/** Rows that one sweep removes; each may hold 500 events. */
const ROWS_DROPPED_MAX = 100

/** The steps of the outbox in the file; each shows only durable events. */
export interface OutboxSteps {
  read<T>(work: (now: number) => T): Promise<T>
  write<T>(work: (tx: Tx) => T): Promise<T>
}

/** Reads the events: anonymous readers pass their position, named ones have it in the file with a lease. */
export class Outbox {
  readonly #database: Database
  readonly #steps: OutboxSteps
  readonly #waiting = new Set<() => void>()
  readonly #waitingForLease = new Set<() => void>()
  #closed = false

  constructor(database: Database, steps: OutboxSteps) {
    this.#database = database
    this.#steps = steps
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
    const last = Number(this.#last())
    if (!oldest || oldest.first === last) return true
    const bytes = (this.#database.get('totalOfEvents')!.total as number) - (oldest.before as number)
    const isYoung = (oldest.at as number) > now - eventsAgeMs
    return isYoung && last - (oldest.first as number) < eventsMax && bytes <= eventsBytesMax
  }

  /** Removes the contents of a task's events, except its statuses. */
  erase(tx: Tx, taskId: string, createdAt: number, completedAt: number): void {
    const name = `"${taskId}"`
    for (const row of tx.database.all('eventsNaming', name, createdAt, completedAt)) {
      const body = withoutContents(row.body as string, name, (event) =>
        event[1] === name ? blanked(event, CONTENTS) : event,
      )
      tx.database.run('rewriteEvents', body, row.last!)
    }
  }

  close(): void {
    this.#closed = true
    this.wake()
    for (const wakeReader of [...this.#waitingForLease]) wakeReader()
  }

  async events(query: EventsQuery): Promise<EventsPage> {
    if (query.reader) return this.#named(query, query.reader)
    const { after, max, waitMs = 0, signal } = query
    const from = after ?? (await this.#steps.read(() => this.#last()))
    return this.#from(from, max, waitMs, signal)
  }

  async #named(query: EventsQuery, reader: EventsReader): Promise<EventsPage> {
    const { after, max, waitMs = 0, signal } = query
    const endsAt = performance.now() + waitMs
    for (;;) {
      // Checking costs a read; only a free lease is worth the write lock.
      const blocked = await this.#steps.read((now) => this.#isAnothers(reader, now))
      const { held, position } = blocked
        ? { held: false, position: blocked }
        : await this.#steps.write((tx) => this.#take(tx, reader, after))
      const left = endsAt - performance.now()
      if (held) return this.#from(position, max, Math.min(left, reader.leaseMs / 2), signal)
      if (reader.leaseMs === 0 || left <= 0 || signal?.aborted || this.#closed) {
        return { events: [], last: position, gap: false, held: false }
      }
      await wait(this.#waitingForLease, Math.min(left, CHECK_AGAIN_MS), signal)
    }
  }

  /** The committed position, while another owner's lease lives. */
  #isAnothers({ name, owner }: EventsReader, now: number): string | null {
    const row = this.#database.get('reader', name)
    const lives = row && row.owner !== null && row.owner !== owner && (row.expires_at as number) > now
    return lives ? (row.position as string) : null
  }

  /** Takes or renews a lease and commits a position, as `EventsReader` specifies. */
  #take(tx: Tx, { name, owner, leaseMs }: EventsReader, after: string | null): { held: boolean; position: string } {
    const another = this.#isAnothers({ name, owner, leaseMs }, tx.now)
    if (another !== null) return { held: false, position: another }
    const row = tx.database.get('reader', name)
    const stored = (row?.position as string | undefined) ?? this.#last()
    const position = row?.owner === owner && after !== null ? after : stored
    const held = leaseMs > 0
    tx.database.run('setReader', name, held ? owner : null, tx.now + leaseMs, position)
    return { held, position }
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
      const page = await this.#steps.read((now) => this.#after(from, max, now))
      if (page.events.length > 0 || page.gap || page.last === from || this.#closed) return page
      from = page.last
    }
  }

  #last(): string {
    return String(this.#database.get('lastEvent')!.last)
  }

  #after(position: string, max: number, now: number): EventsPage {
    const last = Number(this.#last())
    const after = Number(position)
    // The position is from before the file was replaced, or of another engine: continue from now.
    if (!(after >= 0 && after <= last)) return { events: [], last: String(last), gap: true, held: true }
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
    return { events: this.#ofKept(events, now), last: events.at(-1)?.id ?? position, gap, held: true }
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
