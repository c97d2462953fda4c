import { ErrorReply } from '@redis/client'
import { XQueueError } from '../../task/errors.ts'
import { closedError } from '../refusals.ts'
import { failureOf, mayTryAgain, UnreachedError } from './failures.ts'
import { partitionPrefix } from './keys.ts'
import { isHarmless, type Library, loadLibrary, type StepName } from './library.ts'
import type { NodeConnection } from './node-connection.ts'
import type { RedisUrl } from './redis-url.ts'
import { Topology } from './topology.ts'

/** What a step answers: texts, numbers, and lists of them. */
export type Reply = string | number | null | Reply[]

const PAUSE_MS_MIN = 5
const PAUSE_MS_MAX = 250
const VERSION_MIN = 7
/** A call that need not be patient waits this part of the time. */
const BRIEF = 20

/**
 * The way to Redis: a connection to each node for steps, and one for what is published. A call waits while Redis is
 * away, up to the `waitMs` of the place, and fails then; once it was sent, it fails when no answer comes for as long.
 *
 * A step whose answer was lost may have run: it fails, and its caller decides whether to call again.
 */
export class RedisConnection {
  readonly #url: RedisUrl
  readonly #library: Library
  readonly #restored: () => void
  readonly #topology: Topology
  readonly #prefixes: string[]
  readonly #listeners = new Map<string, (message: string) => void>()
  #hearing: Promise<NodeConnection> | undefined
  #underWay = 0
  readonly #ended = Promise.withResolvers<void>()
  #wasLost = false
  #lastError: unknown
  #closed = false

  /** @param restored is called when published messages may have been missed, or what was left in Redis been lost */
  constructor(place: RedisUrl, restored: () => void) {
    this.#url = place
    this.#library = loadLibrary(place)
    this.#restored = restored
    this.#topology = new Topology(
      place,
      () => this.#opened(),
      () => this.#lost(),
    )
    this.#prefixes = Array.from({ length: place.partitions }, (_, partition) => partitionPrefix(place, partition))
  }

  /** @throws XQueueError `engine_unavailable` | `engine_unusable` */
  async open(): Promise<void> {
    const facts = (await this.info('server', 'replication')).join('\n')
    const fact = (name: string) => new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(facts)?.[1]
    const version = fact('redis_version')
    const is = (what: string) => {
      const where = this.#url.nodes.map(({ host, port }) => `${host}:${port}`).join(', ')
      return new XQueueError('engine_unusable', `Redis at ${where} ${what}`)
    }
    if (version !== undefined && Number.parseInt(version, 10) < VERSION_MIN) {
      throw is(`has version ${version}: XQueue needs ${VERSION_MIN}.0 or newer`)
    }
    if (this.#url.kind !== 'cluster' && fact('redis_mode') === 'cluster') {
      throw is('is part of a cluster: write redis+cluster:// in the URL')
    }
    if (this.#url.kind === 'single' && fact('role') === 'slave') {
      throw is('is a read-only replica: name its master in the URL, or use redis+sentinel://')
    }
  }

  /**
   * Runs a step on a partition.
   * @param isBrief waits only a fraction of the time for a node that is away
   * @throws XQueueError `engine_unavailable`
   */
  run<Answer extends Reply>(
    step: StepName,
    partition: number,
    args: readonly string[],
    isBrief = false,
  ): Promise<Answer> {
    const command = ['FCALL', this.#library.functionOf(step), '1', this.#prefixes[partition]!, ...args]
    const run = async (connection: NodeConnection) => {
      try {
        return (await connection.send(command)) as Answer
      } catch (error) {
        // A node that has not seen this version yet, or whose functions were flushed.
        if (!(error instanceof ErrorReply && error.message.includes('Function not found'))) throw error
        await this.#load(connection)
        return (await connection.send(command)) as Answer
      }
    }
    return this.#insist(partition, isHarmless(step), run, isBrief ? this.#url.waitMs / BRIEF : this.#url.waitMs)
  }

  /** Listens to a channel, over reconnects. */
  async subscribe(channel: string, listener: (message: string) => void): Promise<void> {
    this.#listeners.set(channel, listener)
    const until = performance.now() + this.#url.waitMs
    try {
      for (;;) {
        const connection = await this.#before(until, this.#hear())
        try {
          // Again is no harm.
          await connection.subscribe(channel, listener)
          return
        } catch (error) {
          // After a close there is no next one, and to try on would keep the process from everything else.
          if (this.#closed || performance.now() > until) throw error
          // It was lost in between: the next one is on its way.
        }
      }
    } catch (error) {
      throw this.#closed ? closedError() : failureOf(error, this.#url)
    }
  }

  /** Sections of INFO, of each node that serves. @throws XQueueError `engine_unavailable` */
  info(...sections: string[]): Promise<string[]> {
    return this.#everywhere(async (connection) => {
      const texts = await Promise.all(sections.map((section) => connection.send(['INFO', section])))
      return texts.join('\n')
    })
  }

  /** A setting of each node that serves; undefined where it may not be asked for. */
  setting(name: string): Promise<(string | undefined)[]> {
    return this.#everywhere((connection) =>
      connection.send(['CONFIG', 'GET', name]).then(
        (answer) => (answer as string[])[1],
        () => undefined,
      ),
    )
  }

  /** Lets what is under way end, then disconnects. */
  async close(): Promise<void> {
    this.#closed = true
    if (this.#underWay > 0) await this.#ended.promise
    this.#topology.close()
    this.#hearing?.then(
      (connection) => connection.end(closedError()),
      () => undefined, // It never opened.
    )
  }

  async #load(connection: NodeConnection): Promise<void> {
    try {
      await connection.send(['FUNCTION', 'LOAD', this.#library.text])
    } catch (error) {
      // Another process was faster.
      if (!(error instanceof ErrorReply && error.message.includes('already exists'))) throw error
    }
  }

  async #everywhere<T>(ask: (connection: NodeConnection) => Promise<T>): Promise<T[]> {
    return this.#insist(0, true, async () => Promise.all((await this.#topology.all()).map(ask)))
  }

  /** Calls until it goes well, as long as it may be called again and the wait is not over. */
  async #insist<T>(
    partition: number,
    isHarmless: boolean,
    call: (connection: NodeConnection) => Promise<T>,
    waitMs = this.#url.waitMs,
  ): Promise<T> {
    const until = performance.now() + waitMs
    this.#underWay += 1
    try {
      for (let pauseMs = PAUSE_MS_MIN; ; pauseMs = Math.min(pauseMs * 2, PAUSE_MS_MAX)) {
        try {
          const ready = this.#topology.ready(partition)
          return await call(ready ?? (await this.#before(until, this.#topology.connect(partition))))
        } catch (error) {
          if (this.#closed) throw closedError()
          if (!mayTryAgain(error, isHarmless, this.#url) || performance.now() + pauseMs > until) {
            throw failureOf(error, this.#url)
          }
          this.#tryElsewhere(partition, error)
        }
        await new Promise((resolve) => setTimeout(resolve, pauseMs))
      }
    } finally {
      this.#underWay -= 1
      if (this.#closed && this.#underWay === 0) this.#ended.resolve()
    }
  }

  /** Another node may serve by now. */
  #tryElsewhere(partition: number, error: unknown): void {
    this.#lastError = error
    if (error instanceof ErrorReply && error.message.startsWith('READONLY')) this.#topology.drop(partition, error)
    else this.#topology.doubt()
  }

  /** @throws UnreachedError when it takes longer */
  async #before<T>(until: number, connection: Promise<T>): Promise<T> {
    const late = Promise.withResolvers<never>()
    const because = () => (this.#lastError instanceof Error ? this.#lastError : new Error('no answer'))
    const timer = setTimeout(() => late.reject(new UnreachedError(because())), Math.max(until - performance.now(), 0))
    try {
      return await Promise.race([connection, late.promise])
    } finally {
      clearTimeout(timer)
    }
  }

  /** The connection for what is published: once it was asked for, it is kept up. */
  #hear(): Promise<NodeConnection> {
    this.#hearing ??= this.#startHearing(false).catch((error: unknown) => {
      this.#hearing = undefined
      throw error
    })
    return this.#hearing
  }

  /** @param again it was up before: no refusal is taken for the last word */
  async #startHearing(again: boolean): Promise<NodeConnection> {
    for (let pauseMs = PAUSE_MS_MIN; ; pauseMs = Math.min(pauseMs * 2, PAUSE_MS_MAX)) {
      let isUp = false
      try {
        const connection = await this.#topology.another(() => isUp && this.#lostHearing())
        for (const [channel, listener] of this.#listeners) await connection.subscribe(channel, listener)
        if (this.#closed) connection.end(closedError())
        isUp = connection.isOpen
        if (isUp) this.#opened()
        if (isUp || this.#closed) return connection
      } catch (error) {
        if (this.#closed || !(again || mayTryAgain(error, true, this.#url))) throw error
        this.#lastError = error
        this.#topology.doubt()
      }
      await new Promise((resolve) => setTimeout(resolve, pauseMs))
    }
  }

  #lostHearing(): void {
    if (this.#closed) return
    this.#wasLost = true
    this.#hearing = this.#startHearing(true)
    this.#hearing.catch(() => undefined) // It was closed.
  }

  /** A connection for scripts is gone: the one that hears may be dead as well, and not know yet. */
  #lost(): void {
    this.#wasLost = true
    this.#hearing?.then(
      (connection) => connection.check(),
      () => undefined,
    )
  }

  #opened(): void {
    this.#lastError = undefined
    if (!this.#wasLost || this.#closed) return
    this.#wasLost = false
    queueMicrotask(this.#restored)
  }
}
