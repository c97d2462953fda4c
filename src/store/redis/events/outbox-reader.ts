import { LATE_READER_MS } from '../../options.ts'
import type { StateEvent, StatePage, TaskLocation } from '../../state.ts'
import { type EventsQuery, PAGE_BYTES_MAX } from '../../store.ts'
import type { Database } from '../client/database.ts'
import { eventsOf } from './event-records.ts'
import { readOutbox } from './outbox-page.ts'

/** A waiting reader checks again after this time, in case a message was lost, and marks itself before that. */
const CHECK_AGAIN_MS = 1_000
/** Entries of the outbox that are read at once; each holds the changes of one step. */
const ENTRIES_MAX = 100

/** The position in each partition: `<partition>:<number>,…`, for a single partition only its number. */
type Positions = Map<number, string>

/** The events of all partitions, in the order of each. */
export class OutboxReader {
  readonly #database: Database
  readonly #readers = new Set<() => void>()
  /** By partition: the number before the first event ever, which another life of the partition does not have. */
  readonly #births = new Map<number, number>()
  #rebirths = 0
  readonly #listen: () => Promise<void>
  readonly #locate: (ids: readonly string[]) => Promise<(TaskLocation | null)[]>
  #closed = false

  /**
   * @param listen resolves when this process receives messages
   * @param locate returns null for tasks that are not kept
   */
  constructor(
    database: Database,
    listen: () => Promise<void>,
    locate: (ids: readonly string[]) => Promise<(TaskLocation | null)[]>,
  ) {
    this.#database = database
    this.#listen = listen
    this.#locate = locate
  }

  /** Grows when a partition that had events is found to have lost them all, also if it has new ones. */
  get rebirths(): number {
    return this.#rebirths
  }

  async read({ after, max, waitMs = 0, signal }: EventsQuery): Promise<StatePage> {
    const until = Date.now() + waitMs
    if (waitMs > 0) await this.#listen()
    if (this.#closed) return { events: [], last: after ?? '', gap: false }
    const from = after === null ? 'now' : this.#parse(after)
    if (from === null) return { events: [], last: await this.#now(), gap: true }
    let page = await this.#next(from, max, waitMs > 0)
    const position = this.#parse(page.last) ?? 'now'
    while (page.events.length === 0 && !page.gap && !signal?.aborted && !this.#closed) {
      const leftMs = until - Date.now()
      if (leftMs <= 0) break
      await this.#news(Math.min(leftMs, CHECK_AGAIN_MS), signal)
      if (this.#closed) break
      page = await this.#next(position, max, true)
    }
    return page
  }

  /** The next events, without those of removed tasks. */
  async #next(from: Positions | 'now' | '', max: number, stays: boolean): Promise<StatePage> {
    for (let at = from; ; ) {
      const { hidden, ...page } = await this.#page(at, max, stays)
      if (page.events.length > 0 || hidden === 0 || this.#closed) return page
      at = this.#parse(page.last) ?? 'now'
    }
  }

  async #now(): Promise<string> {
    return (await this.#page('now', 1, false)).last
  }

  /** Whether a position is the same as another one, or behind it. */
  isWithin(position: string, other: string): boolean {
    const [asked, there] = [this.#parse(position), this.#parse(other)]
    if (!asked || !there) return asked === ''
    return [...asked].every(([partition, number]) => Number(there.get(partition) ?? 0) >= Number(number))
  }

  /** Something changed: waiting readers check again. */
  wake(): void {
    for (const wakeReader of [...this.#readers]) wakeReader()
  }

  close(): void {
    this.#closed = true
    this.wake()
  }

  #news(waitMs: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', done)
        this.#readers.delete(done)
        resolve()
      }
      const timer = setTimeout(done, waitMs)
      signal?.addEventListener('abort', done, { once: true })
      this.#readers.add(done)
    })
  }

  async #page(from: Positions | 'now' | '', max: number, stays: boolean): Promise<StatePage & { hidden: number }> {
    const answers = await this.#database.partitions.each(async (partition) => {
      const position = typeof from === 'string' ? from : (from.get(partition) ?? '0')
      const bytesMax = Math.ceil(PAGE_BYTES_MAX / this.#database.count)
      const query = { after: position, max: Math.min(max, ENTRIES_MAX), stays, bytesMax }
      return { partition, position, page: await readOutbox(this.#database, partition, query) }
    })
    let gap = false
    const at: Positions = new Map(typeof from === 'string' ? [] : from)
    const events: StateEvent[] = []
    /** Tasks that may have been removed. */
    const doubtful = new Set<string>()
    const lateUntil = this.#database.now() - LATE_READER_MS
    for (const { partition, position, page } of answers) {
      const { last, before, birth, entries, endedUntil } = page
      if (birth !== (this.#births.get(partition) || birth)) this.#rebirths += 1
      this.#births.set(partition, birth)
      if (position === 'now') {
        at.set(partition, last)
        continue
      }
      // Events before the first kept one have been removed; a number beyond the last belongs to a store that no longer
      // exists. A reader from before the first event has the number before the first event ever written.
      const after = position === '' ? before : position === '0' ? birth : Number(position)
      gap ||= after < before || after > Number(last)
      at.set(partition, after > Number(last) ? last : String(after))
      for (const entry of entries) {
        if (events.length === max) break
        for (const event of eventsOf(partition, entry)) {
          if (events.length === max || Number(event.id) <= after) continue
          at.set(partition, event.id)
          events.push({ ...event, id: this.#write(at) })
          const isOld = event.at <= Math.min(endedUntil, lateUntil)
          if (isOld && event.kind !== 'removed') doubtful.add(event.taskId)
        }
      }
    }
    const kept = await this.#ofKept(events, [...doubtful])
    return { events: kept, last: this.#write(at), gap, hidden: events.length - kept.length }
  }

  /** Omits the events of removed tasks, except their `removed` events. */
  async #ofKept(events: StateEvent[], doubtful: readonly string[]): Promise<StateEvent[]> {
    if (doubtful.length === 0) return events
    const locations = await this.#locate(doubtful)
    const removed = new Set(doubtful.filter((_, index) => locations[index] === null))
    return events.filter(({ kind, taskId }) => kind === 'removed' || !removed.has(taskId))
  }

  #write(at: Positions): string {
    if (this.#database.count === 1) return at.get(0) ?? '0'
    const positions = [...at].filter(([, number]) => number !== '0')
    // A position exists even before the first event.
    return positions.map(([partition, number]) => `${partition}:${number}`).join(',') || '0:0'
  }

  /** Null for a text that is no position of this outbox. */
  #parse(position: string): Positions | '' | null {
    if (position === '') return ''
    if (this.#database.count === 1) return /^\d{1,16}$/.test(position) ? new Map([[0, position]]) : null
    if (!/^(\d{1,3}:\d{1,16})(,\d{1,3}:\d{1,16})*$/.test(position)) return null
    return new Map(position.split(',').map((part) => [Number(part.split(':')[0]), part.split(':')[1]!]))
  }
}
