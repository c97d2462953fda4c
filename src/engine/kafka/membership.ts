import { setTimeout as sleep } from 'node:timers/promises'
import { Consumer } from '@platformatic/kafka'
import type { Log } from './log.ts'

const SESSION_MS = 10_000
const REBALANCE_MS = 10_000
const HEARTBEAT_MS = 1_000
/** How often it looks for topics that other processes have made. */
const TOPICS_MS = 3_000
const TOGETHER_MS = 20
const GOOD_BYE_MS = 2_000

/**
 * This process as a member of the consumer group, and the topics that it reads. Partitions go over one by one
 * (cooperative-sticky): those that stay are not interrupted when a member comes or goes.
 */
export class Membership {
  readonly consumer: Consumer
  readonly #log: Log
  readonly #reads: (topic: string) => boolean
  readonly #stopped = new AbortController()
  /** Topics that are to be read. The client must not hear of one while it joins, see `alone`. */
  readonly #topics = new Set<string>()
  #timer: NodeJS.Timeout | undefined
  #joining: Promise<void> | undefined
  #lastAlone: Promise<unknown> = Promise.resolve()
  /** The heartbeat under way, in which the client may join again. */
  #heartbeat: PromiseWithResolvers<void> | null = null

  /**
   * @param reads which of the topics that there are
   * @param assigned is told each time that partitions may have come or gone
   */
  constructor(log: Log, group: string, reads: (topic: string) => boolean, assigned: () => void) {
    this.#log = log
    this.#reads = reads
    this.consumer = new Consumer({
      ...log.options,
      groupId: group,
      sessionTimeout: SESSION_MS,
      rebalanceTimeout: REBALANCE_MS,
      heartbeatInterval: HEARTBEAT_MS,
      protocols: [{ name: 'cooperative-sticky', version: 1 }],
    })
    this.consumer.on('consumer:group:join', assigned)
    this.#watchHeartbeats()
    // A heartbeat or a join that failed is tried again by the timer.
    this.consumer.on('error', () => undefined)
  }

  start(): void {
    void this.#readTopics()
    this.#timer = setInterval(() => void this.#readTopics(), TOPICS_MS)
  }

  /** A topic was made: it is read from now on. */
  add(topic: string): void {
    if (this.#topics.has(topic)) return
    this.#topics.add(topic)
    void this.#join()
  }

  /** Leaves those topics that are no more, and answers them. */
  async dropRemoved(): Promise<string[]> {
    const there = new Set(await this.#log.topics(this.#reads))
    const removed = [...this.#topics].filter((topic) => !there.has(topic))
    if (removed.length === 0) return removed
    for (const topic of removed) this.#topics.delete(topic)
    await this.alone(async () => {
      for (const topic of removed) this.consumer.topics.untrack(topic)
    })
    void this.#join()
    return removed
  }

  /**
   * What makes the client join goes one after the other. Between the two steps of joining it takes the topics that it
   * reads for those it has joined with, and fails beyond help when one has come in between.
   */
  alone<T>(act: () => Promise<T>): Promise<T> {
    const acted = this.#lastAlone.then(async () => {
      while (this.#heartbeat) await this.#heartbeat.promise
      return act()
    })
    this.#lastAlone = acted.catch(() => undefined)
    return acted
  }

  /** Nobody may be joining when it leaves: that member would stay behind until its session ends. */
  async leave(): Promise<void> {
    clearInterval(this.#timer)
    this.#stopped.abort()
    const left = this.alone(async () => this.consumer.leaveGroup()).catch(() => undefined)
    await Promise.race([left, sleep(GOOD_BYE_MS)])
    await this.consumer.close(true).catch(() => undefined)
  }

  async #readTopics(): Promise<void> {
    try {
      const topics = await this.#log.topics(this.#reads)
      for (const topic of topics) this.add(topic)
      // It may have been put out of the group, or never have come in.
      if (topics.length > 0 && !this.consumer.isActive()) void this.#join()
    } catch {
      // Kafka is away, and health says so; the timer comes again.
    }
  }

  /** Joins with all topics that are known by now; those that come meanwhile go along in the next round. */
  #join(): Promise<void> {
    this.#joining ??= (async () => {
      try {
        let joinedWith: number
        do {
          // Topics that are made together are joined with together.
          await sleep(TOGETHER_MS)
          joinedWith = this.#topics.size
          if (this.#stopped.signal.aborted) return
          await this.alone(() => {
            for (const topic of this.#topics) if (!this.consumer.topics.has(topic)) this.consumer.topics.track(topic)
            return this.consumer.joinGroup({})
          })
        } while (joinedWith !== this.#topics.size)
      } catch {
        // The timer comes again.
      } finally {
        this.#joining = undefined
      }
    })()
    return this.#joining
  }

  #watchHeartbeats(): void {
    const ended = () => {
      this.#heartbeat?.resolve()
      this.#heartbeat = null
    }
    this.consumer.on('consumer:heartbeat:start', () => {
      ended()
      this.#heartbeat = Promise.withResolvers()
    })
    this.consumer.on('consumer:heartbeat:end', ended)
    this.consumer.on('consumer:heartbeat:cancel', ended)
    this.consumer.on('consumer:heartbeat:error', ended)
    this.consumer.on('consumer:group:join', ended)
    // A heartbeat that made it join again ends with that, well or not; the client's types have another name for it.
    this.consumer.on('consumer:rejoin' as 'consumer:group:rejoin', ended)
  }
}
