import { setTimeout as wait } from 'node:timers/promises'
import type { EventsPage } from '../queue/queue.ts'
import type { Bounds } from '../task/bounds.ts'
import type { TaskEvent } from '../task/event.ts'
import { LimitWatch } from '../task/limit-watch.ts'
import type { LiveOptions } from './live.ts'
import { type Followed, LogFollower } from './log-follower.ts'
import { type Message, type Topics, WORKER_STATES } from './topics.ts'

const PAGE = 1_000
/**
 * Each read waits for the disk to have what it shows. After a page of many events the next one is left to fill for a
 * while, so that one sync and one write do for a thousand; after a few, it is read at once.
 */
const EVENTS_PER_MS = 10
const APART_MS_MAX = 20
const WAIT_MS = 10_000
const TICK_MS = 1_000

export interface PublisherTarget {
  /** Whether a topic has subscribers. */
  isHeard: (topic: string) => boolean
  /** The subscriptions to any topic of a shape. */
  subscriptionsTo: (shape: string) => ReadonlySet<string>
  /** Before what these events tell is published. */
  prepare: (events: readonly TaskEvent[]) => Promise<void>
  /** The logs that subscribers follow. */
  followed: () => Followed
  /** Subscribers that see a part of the queue. */
  tenants: () => Map<string, Bounds>
  /** Resolves when every subscriber has taken it, so that reading goes no faster than they do. */
  publish: (messages: readonly Message[]) => Promise<void>
  /** Events were deleted before they were published: subscribers must read the states again. */
  missed: () => void
}

/**
 * Brings the store's events to the subscribers of this process. It reads only while there are any: closed → open (the
 * place is fixed) → reading → closed again when the last one has gone.
 */
export class EventPublisher {
  readonly #options: LiveOptions
  readonly #topics: Topics
  readonly #target: PublisherTarget
  #reading: { place: Promise<string>; stop: AbortController; done: Promise<unknown> } | undefined
  readonly #logs: LogFollower
  readonly #limits: LimitWatch
  #toldOfLimits: ReadonlySet<string> = new Set()
  #workers = new Set<string>()

  constructor(options: LiveOptions, topics: Topics, target: PublisherTarget) {
    this.#options = options
    this.#topics = topics
    this.#target = target
    this.#logs = new LogFollower(options.queue, topics)
    this.#limits = new LimitWatch(options.limits)
  }

  /** Resolves when everything that happens from now on will be published. */
  async open(): Promise<void> {
    if (!this.#reading) {
      const stop = new AbortController()
      const place = this.#options.queue.events({ after: null, max: 1 }).then(({ last }) => last)
      const done = Promise.all([this.#read(place, stop.signal), this.#tick(stop.signal)])
      this.#reading = { place, stop, done }
    }
    const { place } = this.#reading
    await place.catch((error: unknown) => {
      if (this.#reading?.place === place) this.close()
      throw error
    })
  }

  close(): void {
    this.#reading?.stop.abort()
    this.#reading = undefined
  }

  async stop(): Promise<void> {
    const done = this.#reading?.done
    this.close()
    await done
  }

  async #read(place: Promise<string>, signal: AbortSignal): Promise<void> {
    let after = await place.catch(() => null) // The opener gets the error.
    let failing = false
    while (after !== null && !signal.aborted) {
      try {
        const { last, events } = await this.#publishPage(after, signal)
        after = last
        failing = false
        const apartMs = Math.min(events.length / EVENTS_PER_MS, APART_MS_MAX)
        if (apartMs >= 1 && events.length < PAGE) await pause(apartMs, signal)
      } catch (error) {
        if (!failing && !signal.aborted) this.#options.logger.warn({ err: error }, 'status over MQTT is interrupted')
        failing = true
        await pause(TICK_MS, signal)
      }
    }
  }

  async #publishPage(after: string, signal: AbortSignal): Promise<EventsPage> {
    const page = await this.#options.queue.events({ after, max: PAGE, waitMs: WAIT_MS, signal })
    if (page.gap) this.#target.missed()
    this.#logs.changed(page.events)
    await this.#target.prepare(page.events)
    await this.#target.publish(page.events.flatMap((event) => this.#topics.ofEvent(event)))
    return page
  }

  /** Publishes statistics, limits and workers each second if they have subscribers. */
  async #tick(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.#publishStats()
        await this.#publishLimits()
        await this.#publishWorkers()
        await this.#publishLogs()
      } catch (error) {
        this.#options.logger.debug({ err: error }, 'no statistics: the engine failed')
      }
      await pause(TICK_MS, signal)
    }
  }

  async #publishStats(): Promise<void> {
    if (!this.#target.isHeard(this.#topics.stats)) return
    await this.#target.publish([this.#topics.ofStats(await this.#options.stats())])
    const { statsOf } = this.#options
    for (const [tenant, bounds] of statsOf ? this.#target.tenants() : []) {
      await this.#target.publish([this.#topics.ofStats(await statsOf!(bounds), tenant)])
    }
  }

  /** A new subscription gets all settings, and so do the earlier ones. */
  async #publishLimits(): Promise<void> {
    const subscriptions = this.#target.subscriptionsTo(this.#topics.limit('+'))
    if (![...subscriptions].every((one) => this.#toldOfLimits.has(one))) this.#limits.forget()
    this.#toldOfLimits = subscriptions
    if (subscriptions.size === 0) return
    await this.#target.publish((await this.#limits.look()).map((state) => this.#topics.ofLimit(state)))
  }

  async #publishLogs(): Promise<void> {
    for await (const messages of this.#logs.round(this.#target.followed())) {
      await this.#target.prepare(messages.flatMap(({ event }) => event ?? []))
      await this.#target.publish(messages)
    }
  }

  async #publishWorkers(): Promise<void> {
    const now = new Set((await this.#options.queue.workers()).map(({ id }) => id))
    const tell = (id: string, state: string) => this.#target.publish([this.#topics.ofWorker(id, state)])
    for (const id of now) if (!this.#workers.has(id)) await tell(id, WORKER_STATES.here)
    for (const id of this.#workers) if (!now.has(id)) await tell(id, WORKER_STATES.gone)
    this.#workers = now
  }
}

function pause(ms: number, signal: AbortSignal): Promise<unknown> {
  return wait(ms, undefined, { signal }).catch(() => undefined)
}
