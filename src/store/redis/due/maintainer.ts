import type { DueHandler } from '../../documents.ts'
import type { StoreOptions, Swept } from '../../store.ts'
import type { Database } from '../client/database.ts'
import type { Turns } from '../turn/turns.ts'
import type { PartitionMessages } from './partition-messages.ts'

/** How long a process keeps the role of sweeping a partition; if it dies, another takes over after this time. */
const KEEP_MS = 5_000
const TIMER_MS_MAX = 60_000
const PROMOTED_MAX = 1_000

/** The answer of sweep.lua. */
type Reply =
  | ['', anotherForMs: number]
  | [
      'swept',
      changed: number,
      more: number,
      nextAt: string,
      leases: [ref: string, lane: string, record: string][],
      now: string,
      schedules: [id: string, text: string][],
      messages: [id: string, text: string][],
    ]

function readSwept([, changed, more, nextAt, leases, now, schedules, messages]: Exclude<Reply, ['', number]>) {
  return {
    changed,
    more: more === 1,
    nextAt: nextAt === '' ? null : Number(nextAt),
    leases: leases.map(([ref, lane, record]) => ({ ref, lane, record })),
    now: Number(now),
    schedules: schedules.map(([id, text]) => ({ id, text })),
    messages: messages.map(([id, text]) => ({ id, text })),
  }
}

/**
 * Processes what is due in one partition, or leaves it to the process that does: of any number of processes one sweeps,
 * and the others ask so rarely that it costs nothing. While turns wait in this process, a timer sweeps as well.
 */
export class Maintainer {
  readonly #database: Database
  readonly #partition: number
  readonly #turns: Turns
  readonly #onDue: DueHandler
  readonly #messages: PartitionMessages
  readonly #options: StoreOptions
  readonly #process: string
  #anotherUntil = 0
  #isMaintainer = false
  #timer: NodeJS.Timeout | undefined
  #timerAt = Number.POSITIVE_INFINITY
  #closed = false

  constructor(
    database: Database,
    partition: number,
    turns: Turns,
    onDue: DueHandler,
    messages: PartitionMessages,
    options: StoreOptions,
    process: string,
  ) {
    this.#database = database
    this.#partition = partition
    this.#turns = turns
    this.#onDue = onDue
    this.#messages = messages
    this.#options = options
    this.#process = process
  }

  /** Does at most `max` of each kind; if there is `more`, the caller goes on. */
  async sweep(max: number): Promise<Swept> {
    const nothing = { changed: 0, more: false, nextAt: null }
    if (!this.#isMaintainer && performance.now() < this.#anotherUntil) return nothing
    const { retention, eventsMax, eventsAgeMs, eventsBytesMax, workerTtlMs, typeTtlMs } = this.#options
    const about = [this.#process, KEEP_MS, this.#database.wasMet(this.#partition)]
    const events = [eventsMax, eventsAgeMs, Math.ceil(eventsBytesMax / Math.max(this.#database.partitions.count, 1))]
    const args = [...about, max, retention.ageMs, retention.countMax, ...events, workerTtlMs, typeTtlMs]
    const reply = await this.#database.run<Reply>('sweep', this.#partition, args)
    this.#isMaintainer = reply[0] === 'swept'
    if (reply[0] !== 'swept') {
      const [, anotherForMs] = reply
      // The factor spreads the processes over time.
      this.#anotherUntil = performance.now() + anotherForMs * (1 + Math.random())
      return nothing
    }
    this.#database.met(this.#partition)
    const { changed, more, nextAt, leases, now, schedules, messages } = readSwept(reply)
    const ended = leases.length === 0 ? 0 : await this.#turns.endDue(this.#partition, leases)
    const delivered = messages.length === 0 ? nothing : await this.#messages.deliver(this.#partition, messages, max)
    const ticked = schedules.length === 0 ? nothing : await this.#onDue(schedules, now, max)
    const times = [nextAt, ticked.nextAt].filter((time) => time !== null)
    const next = times.length === 0 ? null : Math.min(...times)
    const hasMore = more || ticked.more || delivered.more
    if (!hasMore) this.dueAt(next)
    return {
      changed: changed + ended + ticked.changed + delivered.changed,
      more: hasMore,
      nextAt: next === null ? null : this.#database.toLocal(next),
    }
  }

  /** Something becomes due at `time`: sweeps then, if this is the process that does. */
  dueAt(time: number | null): void {
    if (time === null || !this.#isMaintainer || this.#closed || time >= this.#timerAt) return
    clearTimeout(this.#timer)
    this.#timerAt = time
    const inMs = Math.min(Math.max(time - this.#database.now(), 1), TIMER_MS_MAX)
    this.#timer = setTimeout(() => {
      this.#timerAt = Number.POSITIVE_INFINITY
      void this.sweepDue()
    }, inMs)
    this.#timer.unref()
  }

  /** Does all that is due, step by step. */
  async sweepDue(): Promise<void> {
    try {
      const { more } = await this.sweep(PROMOTED_MAX)
      if (more) this.dueAt(this.#database.now())
    } catch {
      // The sweeper tries again when Redis is available.
    }
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
  }
}
