import { setTimeout as sleep } from 'node:timers/promises'
import { Consumer } from '@platformatic/kafka'
import type { Log } from './log.ts'

const SESSION_MS = 10_000
const REBALANCE_MS = 10_000
const HEARTBEAT_MS = 1_000
/** Interval at which it checks for topics that other processes have created. */
const TOPICS_MS = 3_000
const TOGETHER_MS = 20
const LEAVE_MS = 2_000

/**
 * This process as a member of the consumer group, and the topics that it reads. Partitions move one by one
 * (cooperative-sticky): the others are not interrupted when a member joins or leaves.
 */
export class Membership {
  readonly consumer: Consumer
  readonly #log: Log
  readonly #reads: (topic: string) => boolean
  readonly #stopped = new AbortController()
  /** Topics to read. The client must not learn of a new one while it joins, see `alone`. */
  readonly #topics = new Set<string>()
  #timer: NodeJS.Timeout | undefined
  #joining: Promise<void> | undefined
  #lastAlone: Promise<unknown> = Promise.resolve()
  /** The heartbeat under way, during which the client may join again. */
  #heartbeat: PromiseWithResolvers<void> | null = null

  /**
   * @param reads which of the existing topics to read
   * @param assigned is called each time that the assignment of partitions may have changed
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
    // The timer repeats a failed heartbeat or join.
    this.consumer.on('error', () => undefined)
  }

  start(): void {
    void this.#readTopics()
    this.#timer = setInterval(() => void this.#readTopics(), TOPICS_MS)
  }

  /** A topic was created: it is read from now on. */
  add(topic: string): void {
    if (this.#topics.has(topic)) return
    this.#topics.add(topic)
    void this.#join()
  }

  /** Leaves topics that no longer exist, and returns them. */
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
   * Runs actions that make the client join one after the other. Between the two steps of joining, the client assumes
   * that it joined with its current topics, and fails permanently if one was added in between.
   */
  alone<T>(act: () => Promise<T>): Promise<T> {
    const acted = this.#lastAlone.then(async () => {
      while (this.#heartbeat) await this.#heartbeat.promise
      return act()
    })
    this.#lastAlone = acted.catch(() => undefined)
    return acted
  }

  /** No join may be under way when it leaves: otherwise that member would remain until its session ends. */
  async leave(): Promise<void> {
    clearInterval(this.#timer)
    this.#stopped.abort()
    const left = this.alone(async () => this.consumer.leaveGroup()).catch(() => undefined)
    await Promise.race([left, sleep(LEAVE_MS)])
    await this.consumer.close(true).catch(() => undefined)
  }

  async #readTopics(): Promise<void> {
    try {
      const topics = await this.#log.topics(this.#reads)
      for (const topic of topics) this.add(topic)
      // The group may have removed it, or it may never have joined.
      if (topics.length > 0 && !this.consumer.isActive()) void this.#join()
    } catch {
      // Kafka is unavailable, as health reports; the timer tries again.
    }
  }

  /** Joins with all topics that are known by now; topics that are added meanwhile are part of the next round. */
  #join(): Promise<void> {
    this.#joining ??= (async () => {
      try {
        let joinedWith: number
        do {
          // Topics that are created together are joined together.
          await sleep(TOGETHER_MS)
          joinedWith = this.#topics.size
          if (this.#stopped.signal.aborted) return
          await this.alone(() => {
            for (const topic of this.#topics) if (!this.consumer.topics.has(topic)) this.consumer.topics.track(topic)
            return this.consumer.joinGroup({})
          })
        } while (joinedWith !== this.#topics.size)
      } catch {
        // The timer tries again.
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
    // A heartbeat that caused a rejoin ends with it, successfully or not; the client's types name the event
    // differently.
    this.consumer.on('consumer:rejoin' as 'consumer:group:rejoin', ended)
  }
}
