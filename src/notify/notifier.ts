import { setTimeout as wait } from 'node:timers/promises'
import { Link, type LinkOptions } from './link.ts'
import type { Live, LiveOptions } from './live.ts'
import { Topics, WORKER_STATES } from './topics.ts'

const READER = 'mqtt'
const LEASE_MS = 10_000
const PAGE = 500
const WAIT_MS = 5_000
const RECONNECT_MS = { min: 200, max: 10_000 }
const STATS_MS = 1_000
/** At a stop, a broker that does not acknowledge is waited for this long; what is left is published by the next one. */
const STOP_MS_MAX = 3_000

/**
 * Publishes every change to an external broker. The processes of an engine share one named reader of its outbox: the
 * one that holds it publishes, the others stand by. A page of events is committed when the broker has acknowledged all
 * of it; whatever ends before, a broker, a connection or a process, it is read and published again.
 *
 * Connected → reading → publishing → committed, and round again; a loss at any point goes back to connecting, with
 * pauses that grow. While it is not connected the events wait in the outbox, and nothing is kept in memory.
 */
export class Notifier implements Live {
  readonly browser = null
  readonly #options: LiveOptions
  readonly #link: LinkOptions
  readonly #topics: Topics
  /** URL without user and password, for people. */
  readonly #where: string
  readonly #stopping = new AbortController()
  #version: 4 | 5 = 5
  #failures = 0
  #state: { ok: boolean; detail: string }
  #running: Promise<void> | undefined

  constructor(options: LiveOptions) {
    const { mqtt: url, qos, retain, retentionMs, workerId } = options
    this.#options = options
    this.#topics = new Topics(options.prefix)
    const { protocol, host } = new URL(url)
    this.#where = `${protocol}//${host}`
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
      await wait(pauseMs, undefined, { signal }).catch(() => undefined)
    }
  }

  async #connection(): Promise<void> {
    const link = await Link.open(this.#link, this.#version)
    const { workerId, logger } = this.#options
    let giveUp: NodeJS.Timeout | undefined
    const stopping = () => {
      giveUp = setTimeout(() => link.abandon(), STOP_MS_MAX)
    }
    this.#stopping.signal.addEventListener('abort', stopping, { once: true })
    try {
      if (workerId) {
        await link.publish([{ topic: this.#topics.worker(workerId), payload: WORKER_STATES.here, retain: true }])
      }
      if (this.#failures > 0) logger.info({ broker: this.#where }, 'the MQTT broker is back: what waited is published')
      this.#failures = 0
      await this.#publishAll(link)
    } finally {
      await link.close()
      clearTimeout(giveUp)
      this.#stopping.signal.removeEventListener('abort', stopping)
    }
  }

  /** Until the link is lost or the process stops; gives the reader up at the end, so that another can go on. */
  async #publishAll(link: Link): Promise<void> {
    const { engine, instanceId, logger } = this.#options
    const reader = { name: READER, owner: instanceId, leaseMs: LEASE_MS }
    const signal = AbortSignal.any([this.#stopping.signal, link.lost])
    let after: string | null = null
    let statsAt = 0
    let waitMs = 0
    try {
      while (!signal.aborted) {
        const page = await engine.events({ after, max: PAGE, waitMs, signal, reader })
        this.#state = {
          ok: true,
          detail: `connected to ${this.#where}${page.held ? '' : ', another process publishes'}`,
        }
        after = null
        waitMs = WAIT_MS
        if (!page.held) continue
        if (page.gap) {
          logger.warn({ broker: this.#where }, 'events were gone before they were published: publishing what is now')
          await this.#publishStates(link, () => engine.events({ after: null, max: 1, reader }))
        }
        await link.publish(page.events.flatMap((event) => this.#topics.ofEvent(event)))
        after = page.last
        if (performance.now() >= statsAt) {
          statsAt = performance.now() + STATS_MS
          const payload = JSON.stringify(await this.#options.stats())
          await link.publish([{ topic: this.#topics.stats, payload, retain: false }], 0)
        }
        waitMs = Math.max(1, statsAt - performance.now())
      }
      if (link.lost.aborted) throw link.lost.reason
    } finally {
      const released = engine.events({ after, max: 1, reader: { ...reader, leaseMs: 0 } })
      await released.catch((error: unknown) => logger.debug({ err: error }, 'the reader is left to expire'))
    }
  }

  /** After a gap the retained states would be wrong for good: tells the present state of all that is kept. */
  async #publishStates(link: Link, renew: () => Promise<unknown>): Promise<void> {
    let cursor: string | null = null
    do {
      const page = await this.#options.engine.list({ limit: PAGE, ...(cursor === null ? {} : { cursor }) })
      await link.publish(page.tasks.map((task) => this.#topics.ofTask(task)))
      cursor = page.nextCursor
      await renew()
    } while (cursor !== null)
  }

  #down(error: Error & { tryOtherVersion?: boolean }): void {
    if (error.tryOtherVersion) this.#version = this.#version === 5 ? 4 : 5
    const first = this.#state.ok || this.#failures === 0
    this.#failures += 1
    const because = error.message || String((error as NodeJS.ErrnoException).code)
    this.#state = { ok: false, detail: `${this.#where}: ${because}; events wait, tasks go on` }
    const text = 'status is not published over MQTT for now: events wait, tasks go on'
    this.#options.logger[first ? 'warn' : 'debug']({ broker: this.#where, because }, text)
  }
}
