import { ErrorReply } from '@redis/client'
import { XQueueError } from '../../../task/errors.ts'
import { closedError } from '../../refusals.ts'
import { partitionPrefix } from '../records/keys.ts'
import { failureOf, mayTryAgain, UnreachedError } from './failures.ts'
import { isHarmless, type Library, loadLibrary, type StepName } from './library.ts'
import type { NodeConnection } from './node-connection.ts'
import type { RedisUrl } from './redis-url.ts'
import { Topology } from './topology.ts'

/** The answer of a step: texts, numbers, and lists of them. */
export type Reply = string | number | null | Reply[]

const PAUSE_MS_MIN = 5
const PAUSE_MS_MAX = 250
const VERSION_MIN = 7
/** A brief call waits for this fraction of the time. */
const BRIEF = 20

/**
 * The connections to Redis: one to each node for steps, and one for published messages. A call waits while Redis is
 * unavailable, up to the `waitMs` of the URL, and then fails; once it was sent, it fails when there is no answer for as
 * long.
 *
 * A step whose answer was lost may have run: it fails, and its caller decides whether to repeat it.
 */
export class RedisConnection {
  readonly #url: RedisUrl
  readonly #library: Library
  readonly #restored: () => void
  readonly #topology: Topology
  readonly #prefixes: string[]
  /** The connection that served each partition last. */
  readonly #serving: NodeConnection[] = []
  #incarnation = 0
  readonly #listeners = new Map<string, (message: string) => void>()
  #subscriber: Promise<NodeConnection> | undefined
  #underWay = 0
  readonly #ended = Promise.withResolvers<void>()
  #wasLost = false
  #lastError: unknown
  #closed = false

  /** @param restored is called when published messages may have been missed, or data in Redis may have been lost */
  constructor(url: RedisUrl, restored: () => void) {
    this.#url = url
    this.#library = loadLibrary(url)
    this.#restored = restored
    this.#topology = new Topology(
      url,
      () => this.#opened(),
      () => this.#lost(),
    )
    this.#prefixes = Array.from({ length: url.partitions }, (_, partition) => partitionPrefix(url, partition))
  }

  /** Grows when a partition is served by another connection: its node has restarted, or another one has taken over. */
  get incarnation(): number {
    return this.#incarnation
  }

  /** @throws XQueueError `engine_unavailable` | `engine_unusable` */
  async open(): Promise<void> {
    // Before version 7, Redis answers with one section at a time.
    const facts = (await Promise.all([this.info('server'), this.info('replication')])).flat().join('\n')
    const fact = (name: string) => new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(facts)?.[1]
    const version = fact('redis_version')
    const is = (what: string) => {
      const where = this.#url.nodes.map(({ host, port }) => `${host}:${port}`).join(', ')
      return new XQueueError('engine_unusable', `Redis at ${where} ${what}`)
    }
    if (version !== undefined && Number.parseInt(version, 10) < VERSION_MIN) {
      throw is(`has version ${version}: XQueue needs ${VERSION_MIN}.0 or newer`)
    }
    // Valkey names it server_mode.
    if (this.#url.kind !== 'cluster' && (fact('redis_mode') ?? fact('server_mode')) === 'cluster') {
      throw is('is part of a cluster: write redis+cluster:// in the URL')
    }
    if (this.#url.kind === 'single' && fact('role') === 'slave') {
      throw is('is a read-only replica: name its master in the URL, or use redis+sentinel://')
    }
  }

  /**
   * Runs a step on a partition.
   * @param isBrief waits only a fraction of the time for a node that is unavailable
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
      if (connection !== (this.#serving[partition] ?? connection)) this.#incarnation += 1
      this.#serving[partition] = connection
      try {
        return (await connection.send(command)) as Answer
      } catch (error) {
        // The node has not seen this version yet, or its functions were flushed.
        if (!(error instanceof ErrorReply && error.message.includes('Function not found'))) throw error
        await this.#load(connection)
        return (await connection.send(command)) as Answer
      }
    }
    return this.#insist(partition, isHarmless(step), run, isBrief ? this.#url.waitMs / BRIEF : this.#url.waitMs)
  }

  /** Listens to a channel, across reconnects. */
  async subscribe(channel: string, listener: (message: string) => void): Promise<void> {
    this.#listeners.set(channel, listener)
    const until = performance.now() + this.#url.waitMs
    try {
      for (;;) {
        const connection = await this.#before(until, this.#connectSubscriber())
        try {
          // A repeated subscription does no harm.
          await connection.subscribe(channel, listener)
          return
        } catch (error) {
          // After a close there is no next connection, and further tries would keep the process alive.
          if (this.#closed || performance.now() > until) throw error
          // The connection was lost in between: the next one is being opened.
        }
      }
    } catch (error) {
      throw this.#closed ? closedError() : failureOf(error, this.#url)
    }
  }

  /** Sections of INFO, of each node that serves. @throws XQueueError `engine_unavailable` */
  info(...sections: string[]): Promise<string[]> {
    return this.#everywhere((connection) => connection.send(['INFO', ...sections]) as Promise<string>)
  }

  /** A setting of each node that serves; undefined where the user may not read it. */
  setting(name: string): Promise<(string | undefined)[]> {
    return this.#everywhere((connection) =>
      connection.send(['CONFIG', 'GET', name]).then(
        (answer) => (answer as string[])[1],
        () => undefined,
      ),
    )
  }

  /** Waits for the calls under way, then disconnects. */
  async close(): Promise<void> {
    this.#closed = true
    if (this.#underWay > 0) await this.#ended.promise
    this.#topology.close()
    this.#subscriber?.then(
      (connection) => connection.end(closedError()),
      () => undefined, // The connection never opened.
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

  /** Calls until it succeeds, as long as a repetition is allowed and the wait is not over. */
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

  /** Another node may serve the partition by now. */
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

  /** The connection for published messages: after the first request it is always reopened. */
  #connectSubscriber(): Promise<NodeConnection> {
    this.#subscriber ??= this.#openSubscriber(false).catch((error: unknown) => {
      this.#subscriber = undefined
      throw error
    })
    return this.#subscriber
  }

  /** @param again it was connected before: no refusal is treated as final */
  async #openSubscriber(again: boolean): Promise<NodeConnection> {
    for (let pauseMs = PAUSE_MS_MIN; ; pauseMs = Math.min(pauseMs * 2, PAUSE_MS_MAX)) {
      let isUp = false
      try {
        const connection = await this.#topology.another(() => isUp && this.#lostHearing())
        for (const [channel, listener] of this.#listeners) await connection.subscribe(channel, listener)
        if (this.#closed) connection.end(closedError())
        isUp = connection.isOpen
        if (isUp) {
          // A connection for steps may have been opened before, and messages were missed since.
          this.#wasLost ||= again
          this.#opened()
        }
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
    this.#subscriber = this.#openSubscriber(true)
    this.#subscriber.catch(() => undefined) // The connection was closed.
  }

  /** A connection for scripts was lost: the subscribing one may have failed as well without notice. */
  #lost(): void {
    this.#wasLost = true
    this.#subscriber?.then(
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
