import { setTimeout as wait } from 'node:timers/promises'
import type { EventsPage, EventsReader } from '../queue/queue.ts'
import { LimitWatch } from '../task/limit-watch.ts'
import { pagesOf } from '../task/pages.ts'
import type { LinkOptions } from './connect.ts'
import { Link } from './link.ts'
import type { Live, LiveOptions } from './live.ts'
import { Topics, WORKER_STATES } from './topics.ts'

const READER = 'mqtt'
const LEASE_MS = 10_000
const PAGE = 500
const WAIT_MS = 5_000
const RECONNECT_MS = { min: 200, max: 10_000 }
const STATS_MS = 1_000
const COMMIT_MS = 500
/** Pages that may be on their way to the broker while the next one is read. */
const PAGES_AHEAD = 4
/** Not a failure: another process holds the reader now. */
const LEASE_LOST = new Error('the lease of the reader was lost')
/** At a stop, a broker that does not acknowledge is waited for this long; what is left is published by the next one. */
const STOP_MS_MAX = 3_000

/**
 * Publishes every change to an external broker. The processes of a store share one named reader of its outbox: the
 * one that holds it publishes, the others stand by. Events are committed when the broker has acknowledged them and all
 * before them; whatever ends before, a broker, a connection or a process, it is read and published again.
 *
 * Connected → reading → publishing → committed, and round again; a loss at any point goes back to connecting, with
 * pauses that grow. While it is not connected the events wait in the outbox, and nothing is kept in memory.
 */
export class Notifier implements Live {
  readonly webSocketPath = null
  readonly subscribeAt: Live['subscribeAt']
  readonly #options: LiveOptions
  readonly #link: LinkOptions
  readonly #topics: Topics
  /** URL without user and password, for people. */
  readonly #where: string
  readonly #stopping = new AbortController()
  #version: 4 | 5
  #placed = false
  #failures = 0
  /** ms, monotonic. */
  #awaySince: number | null = null
  #statsAt = 0
  readonly #limits: LimitWatch
  /** Everything up to here was acknowledged; null: nothing since the lease was taken. */
  #handled: string | null = null
  #state: { ok: boolean; detail: string }
  #running: Promise<void> | undefined

  constructor(options: LiveOptions) {
    const { mqtt: url, qos, retain, retentionMs, workerId } = options
    this.#options = options
    this.#version = options.version === '3.1.1' ? 4 : 5
    this.#topics = new Topics(options.prefix)
    this.#limits = new LimitWatch(options.limits)
    const { protocol, host } = new URL(url)
    this.#where = `${protocol}//${host}`
    this.subscribeAt = { url: options.publicUrl ?? this.#where, prefix: options.prefix }
    const clientId = options.clientId ?? `xqueue-${options.instanceId.slice(-12)}`
    this.#link = { url, qos, retain, retentionMs, workerId, clientId, topics: this.#topics }
    this.#state = { ok: false, detail: `connecting to ${this.#where}` }
  }

  async start(): Promise<void> {
    this.#running = this.#run()
  }

  check() {
    return { name: 'mqtt', ...this.#state }
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#running
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping
    while (!signal.aborted) {
      try {
        await this.#connection()
      } catch (error) {
        if (signal.aborted) return
        this.#down(error as Error & { tryOtherVersion?: boolean })
      }
      const pauseMs = Math.min(RECONNECT_MS.max, RECONNECT_MS.min * 2 ** Math.min(this.#failures, 10))
      await pause(pauseMs, signal)
    }
  }

  async #connection(): Promise<void> {
    await this.#fixPlace()
    const link = await Link.open(this.#link, this.#version)
    const { workerId, logger } = this.#options
    let giveUp: NodeJS.Timeout | undefined
    const stopping = () => {
      giveUp = setTimeout(() => link.abandon(), STOP_MS_MAX)
    }
    this.#stopping.signal.addEventListener('abort', stopping, { once: true })
    try {
      if (workerId) {
        await link.publish([this.#topics.ofWorker(workerId, WORKER_STATES.here)])
      }
      if (this.#awaySince !== null) {
        const seconds = Math.round(performance.now() - this.#awaySince) / 1_000
        logger.info({ broker: this.#where, seconds }, 'the MQTT broker is back: waiting events are published')
      }
      this.#awaySince = null
      this.#failures = 0
      await this.#publishAll(link)
    } finally {
      await link.close()
      clearTimeout(giveUp)
      this.#stopping.signal.removeEventListener('abort', stopping)
    }
  }

  /** Creates the reader at the first start, so that events before the first connection wait as well. */
  async #fixPlace(): Promise<void> {
    if (this.#placed) return
    await this.#options.queue.events({ after: null, max: 1, reader: this.#reader(0) })
    this.#placed = true
  }

  /** Until the link is lost or the process stops; gives the reader up at the end, so that another can go on. */
  async #publishAll(link: Link): Promise<void> {
    this.#limits.forget()
    const { queue } = this.#options
    const signal = AbortSignal.any([this.#stopping.signal, link.lost])
    let waitMs = 0
    try {
      while (!signal.aborted) {
        this.#handled = null
        const page = await queue.events({ after: null, max: PAGE, waitMs, signal, reader: this.#reader(LEASE_MS) })
        const more = page.held ? '' : ', another process publishes'
        this.#state = { ok: true, detail: `connected to ${this.#where}${more}` }
        waitMs = WAIT_MS
        if (page.held) await this.#publishFrom(page, link, signal)
      }
      if (link.lost.aborted) throw link.lost.reason
    } finally {
      const released = queue.events({ after: this.#handled, max: 1, reader: this.#reader(0) })
      await released.catch((error: unknown) =>
        this.#options.logger.debug({ err: error }, 'the reader is left to expire'),
      )
    }
  }

  /**
   * From the first page on, for as long as the reader is held. Pages are read ahead of what the broker has
   * acknowledged, a bounded number of them, so that no message waits for the acknowledgement of another.
   */
  async #publishFrom(first: EventsPage, link: Link, stopped: AbortSignal): Promise<void> {
    const over = new AbortController()
    const signal = AbortSignal.any([stopped, over.signal])
    const renewing = this.#renew(over, signal)
    const inFlight: Promise<void>[] = []
    let handled = Promise.resolve()
    let hasLost = false
    let isFirst = true
    // Later changes are published over this link.
    const openedAt = Date.now()
    void link.hasLost(this.#topics.ofMark().topic).then((lost) => {
      hasLost = lost
    })
    try {
      for (let page = first; !signal.aborted; ) {
        if (page.gap) await this.#publishStates(link, 'events were deleted before they were published')
        const { last } = page
        const published = link.publish(page.events.flatMap((event) => this.#topics.ofEvent(event)))
        // In the order of the outbox: no position before the ones before it.
        handled = Promise.all([published, handled]).then(() => {
          this.#handled = last
        })
        handled.catch((error: unknown) => over.abort(error))
        inFlight.push(handled)
        if (inFlight.length > PAGES_AHEAD) await inFlight.shift()
        await this.#publishStats(link)
        // Only after all waiting events, so that no state is published before the changes that led to it.
        if (hasLost && page.events.length < PAGE && !isFirst) {
          hasLost = false
          await this.#retainAgain(link, openedAt)
        }
        isFirst = false
        const waitMs = Math.max(1, this.#statsAt - performance.now())
        page = await this.#options.queue.events({ after: last, max: PAGE, waitMs, signal })
      }
      await handled
      if (over.signal.aborted && over.signal.reason !== LEASE_LOST) throw over.signal.reason
    } finally {
      over.abort()
      await renewing
    }
  }

  /** Keeps the lease, and commits what was acknowledged, now and then: after a crash that much is published again. */
  async #renew(over: AbortController, signal: AbortSignal): Promise<void> {
    let committed: string | null = null
    let renewedAt = performance.now()
    while (!signal.aborted) {
      await pause(COMMIT_MS, signal)
      if (this.#handled === committed && performance.now() - renewedAt < LEASE_MS / 3) continue
      try {
        const after: string | null = this.#handled
        const { held } = await this.#options.queue.events({ after, max: 1, reader: this.#reader(LEASE_MS) })
        if (!held) over.abort(LEASE_LOST)
        committed = after
        renewedAt = performance.now()
      } catch (error) {
        over.abort(error)
      }
    }
  }

  #reader(leaseMs: number): EventsReader {
    return { name: READER, owner: this.#options.instanceId, leaseMs }
  }

  async #publishStats(link: Link): Promise<void> {
    if (performance.now() < this.#statsAt) return
    this.#statsAt = performance.now() + STATS_MS
    await link.publish([this.#topics.ofStats(await this.#options.stats())])
    await link.publish((await this.#limits.look()).map((state) => this.#topics.ofLimit(state)))
  }

  /**
   * A broker that retains a mark of ours retains the rest, too. One without it is new, or was restarted without what it
   * had: late subscribers would find nothing there.
   *
   * @param before ms; later changes are published as events
   */
  async #retainAgain(link: Link, before: number): Promise<void> {
    await this.#publishStates(link, 'the broker has no retained states of this queue', before)
    await link.publish([this.#topics.ofMark()])
  }

  /** Where retained states would be wrong for good: tells the present state of all that is kept. */
  async #publishStates(link: Link, because: string, before = Number.POSITIVE_INFINITY): Promise<void> {
    this.#options.logger.warn({ broker: this.#where }, `${because}: publishing the current states`)
    for await (const { tasks } of pagesOf((at) => this.#options.queue.list({ limit: PAGE, ...at }))) {
      const unchanged = tasks.filter(({ updatedAt }) => updatedAt <= before)
      await link.publish(unchanged.map((task) => this.#topics.ofTask(task)))
    }
  }

  #down(error: Error & { tryOtherVersion?: boolean }): void {
    const isFree = (this.#options.version ?? 'auto') === 'auto'
    if (isFree && error.tryOtherVersion) this.#version = this.#version === 5 ? 4 : 5
    const first = this.#awaySince === null
    this.#awaySince ??= performance.now()
    this.#failures += 1
    const because = error.message || String((error as NodeJS.ErrnoException).code)
    this.#state = { ok: false, detail: `${this.#where}: ${because}; events wait, tasks continue` }
    const text = 'status over MQTT is interrupted: events wait, tasks continue'
    this.#options.logger[first ? 'warn' : 'debug']({ broker: this.#where, because }, text)
  }
}

function pause(ms: number, signal: AbortSignal): Promise<unknown> {
  return wait(ms, undefined, { signal }).catch(() => undefined)
}
