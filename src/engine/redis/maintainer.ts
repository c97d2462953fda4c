import type { EngineOptions, Swept } from '../engine.ts'
import type { PartitionMessages } from './partition-messages.ts'
import type { Schedules } from './schedules.ts'
import type { RedisStore } from './store.ts'
import type { Turns } from './turns.ts'

/** How long a process goes on being the one that sweeps a partition; should it die, another takes over after that. */
const KEEP_MS = 5_000
const TIMER_MS_MAX = 60_000
const PROMOTED_MAX = 1_000

type Answer =
  | ['', anotherForMs: number]
  | [
      'swept',
      changed: number,
      more: number,
      nextAt: string,
      leases: string[],
      now: string,
      schedules: string[],
      notices: string[],
    ]

/**
 * Does what time makes due in one partition, or leaves it to the process that does: of very many processes one sweeps,
 * and the others ask it so seldom that it costs nothing. While turns wait here, what is due is also seen to by a timer.
 */
export class Maintainer {
  readonly #store: RedisStore
  readonly #partition: number
  readonly #turns: Turns
  readonly #schedules: Schedules
  readonly #messages: PartitionMessages
  readonly #options: EngineOptions
  readonly #process: string
  #anotherUntil = 0
  #isKeeper = false
  #timer: NodeJS.Timeout | undefined
  #timerAt = Number.POSITIVE_INFINITY
  #closed = false

  constructor(
    store: RedisStore,
    partition: number,
    turns: Turns,
    schedules: Schedules,
    notices: PartitionMessages,
    options: EngineOptions,
    process: string,
  ) {
    this.#store = store
    this.#partition = partition
    this.#turns = turns
    this.#schedules = schedules
    this.#messages = notices
    this.#options = options
    this.#process = process
  }

  async sweep(max: number): Promise<Swept> {
    const nothing = { changed: 0, more: false, nextAt: null }
    if (!this.#isKeeper && performance.now() < this.#anotherUntil) return nothing
    const { retention, eventsMax, eventsAgeMs, eventsBytesMax, workerTtlMs } = this.#options
    const about = [this.#process, KEEP_MS, this.#store.wasMet(this.#partition)]
    const events = [eventsMax, eventsAgeMs, Math.ceil(eventsBytesMax / Math.max(this.#store.partitions.count, 1))]
    const args = [...about, max, retention.ageMs, retention.countMax, ...events, workerTtlMs]
    const answer = await this.#store.run<Answer>('sweep', this.#partition, args)
    this.#isKeeper = answer[0] === 'swept'
    if (answer[0] !== 'swept') {
      // Not all at the same moment.
      this.#anotherUntil = performance.now() + answer[1] * (1 + Math.random())
      return nothing
    }
    this.#store.met(this.#partition)
    const [, changed, more, nextAt, leases, now, due, told] = answer
    const ended = leases.length === 0 ? 0 : await this.#turns.endDue(this.#partition, leases)
    const notices = told.length === 0 ? nothing : await this.#messages.deliver(this.#partition, told, max)
    const ticked = due.length === 0 ? nothing : await this.#schedules.tick(this.#partition, due, Number(now), max)
    const times = [nextAt === '' ? null : Number(nextAt), ticked.nextAt].filter((time) => time !== null)
    const next = times.length === 0 ? null : Math.min(...times)
    this.dueAt(next)
    return {
      changed: changed + ended + ticked.changed + notices.changed,
      more: more === 1 || ticked.more || notices.more,
      nextAt: next === null ? null : this.#store.toLocal(next),
    }
  }

  /** Something becomes due then: sees to it at that time, if this is the process that does. */
  dueAt(time: number | null): void {
    if (time === null || !this.#isKeeper || this.#closed || time >= this.#timerAt) return
    clearTimeout(this.#timer)
    this.#timerAt = time
    const inMs = Math.min(Math.max(time - this.#store.now(), 1), TIMER_MS_MAX)
    this.#timer = setTimeout(() => {
      this.#timerAt = Number.POSITIVE_INFINITY
      // The sweeper comes again when Redis is back.
      this.sweep(PROMOTED_MAX).catch(() => undefined)
    }, inMs)
    this.#timer.unref()
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
  }
}
