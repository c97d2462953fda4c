import { Consumer } from '@platformatic/kafka'
import { type FetchedPartition, notBefore, type ReadRecord } from './fetched.ts'
import type { Log } from './log.ts'

/** Takes the records of one partition, in order, and says how far they are done with. */
export interface PartitionReader {
  /** Whether it takes more now: a partition that does not is left alone, and no other is. */
  readonly wants: boolean
  take(records: readonly ReadRecord[]): void
  /** Everything before this offset is done with, and will never be needed again. */
  readonly doneTo: bigint
  close(): void
}

const SESSION_MS = 10_000
const REBALANCE_MS = 10_000
const HEARTBEAT_MS = 1_000
const COMMIT_MS = 500
/** How often it looks for topics that other processes have made. */
const TOPICS_MS = 3_000
const IDLE_MS = 20
const PAUSE_MS = 300
const GOOD_BYE_MS = 2_000
/** What is done with is cut off not more often than this. */
const CUT_MS = 10_000

interface Assigned {
  topic: string
  partition: number
  next: bigint
  reader: PartitionReader
  committed: bigint
  cut: bigint
}

export interface GroupOptions {
  log: Log
  group: string
  /** Topics that are read by the group, of those that there are. */
  reads: (topic: string) => boolean
  /** Whether what is done with of a topic is dropped from it: for nobody else is meant to read it. */
  isCut: (topic: string) => boolean
  open: (topic: string, partition: number, from: bigint) => PartitionReader
}

/**
 * This process as a member of the consumer group that shares all partitions. It fetches by itself rather than by the
 * client's streams: each partition is paused alone, and what was fetched of one that is revoked meanwhile goes nowhere.
 * An offset is committed only when everything before it is done with, which is true whoever commits it.
 */
export class Group {
  readonly #options: GroupOptions
  readonly #consumer: Consumer
  readonly #assigned = new Map<string, Assigned>()
  readonly #stopped = new AbortController()
  #assigning: Promise<void> = Promise.resolve()
  #running: Promise<unknown> | undefined
  #commitTimer: NodeJS.Timeout | undefined
  #topicsTimer: NodeJS.Timeout | undefined
  #cutAt = 0
  /** Topics that are to be read. The client must not hear of one while it joins, see `#alone`. */
  readonly #topics = new Set<string>()
  #joining: Promise<void> | undefined
  #lastAlone: Promise<unknown> = Promise.resolve()
  /** The heartbeat under way, in which the client may join again. */
  #heartbeat: PromiseWithResolvers<void> | null = null

  constructor(options: GroupOptions) {
    const { log, group } = options
    this.#options = options
    this.#consumer = new Consumer({
      ...log.options,
      groupId: group,
      sessionTimeout: SESSION_MS,
      rebalanceTimeout: REBALANCE_MS,
      heartbeatInterval: HEARTBEAT_MS,
      protocols: [{ name: 'cooperative-sticky', version: 1 }],
      isolationLevel: 1,
    })
    this.#consumer.on('consumer:group:join', () => this.#reassign())
    this.#watchHeartbeats()
    // A heartbeat or a join that failed is tried again by the loop.
    this.#consumer.on('error', () => undefined)
  }

  start(): void {
    this.#running = Promise.all([this.#readTopics(), this.#fetchAll()])
    this.#commitTimer = setInterval(() => void this.#commit(), COMMIT_MS)
    this.#topicsTimer = setInterval(() => void this.#readTopics(), TOPICS_MS)
  }

  /** A topic was made: it is read from now on. */
  add(topic: string): void {
    if (this.#topics.has(topic)) return
    this.#topics.add(topic)
    void this.#join()
  }

  async stop(): Promise<void> {
    clearInterval(this.#commitTimer)
    clearInterval(this.#topicsTimer)
    this.#stopped.abort()
    await this.#commit()
    for (const { reader } of this.#assigned.values()) reader.close()
    // One that cannot say good-bye is missed when its session ends. Nobody may be joining then: it would stay behind.
    const left = this.#alone(async () => this.#consumer.leaveGroup()).catch(() => undefined)
    await Promise.race([left, pause(GOOD_BYE_MS)])
    await this.#consumer.close(true).catch(() => undefined)
    await this.#running
  }

  async #readTopics(): Promise<void> {
    try {
      const topics = await this.#options.log.topics(this.#options.reads)
      for (const topic of topics) this.add(topic)
      // It may have been put out of the group, or never have come in.
      if (topics.length > 0 && !this.#consumer.isActive()) void this.#join()
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
          await pause(IDLE_MS)
          joinedWith = this.#topics.size
          if (this.#stopped.signal.aborted) return
          await this.#alone(() => {
            for (const topic of this.#topics) if (!this.#consumer.topics.has(topic)) this.#consumer.topics.track(topic)
            return this.#consumer.joinGroup({})
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

  /**
   * What makes the client join goes one after the other. Between the two steps of joining it takes the topics that it
   * reads for those it has joined with, and fails beyond help when one has come in between.
   */
  #alone<T>(act: () => Promise<T>): Promise<T> {
    const acted = this.#lastAlone.then(async () => {
      while (this.#heartbeat) await this.#heartbeat.promise
      return act()
    })
    this.#lastAlone = acted.catch(() => undefined)
    return acted
  }

  #watchHeartbeats(): void {
    const ended = () => {
      this.#heartbeat?.resolve()
      this.#heartbeat = null
    }
    this.#consumer.on('consumer:heartbeat:start', () => {
      ended()
      this.#heartbeat = Promise.withResolvers()
    })
    this.#consumer.on('consumer:heartbeat:end', ended)
    this.#consumer.on('consumer:heartbeat:cancel', ended)
    this.#consumer.on('consumer:heartbeat:error', ended)
    this.#consumer.on('consumer:group:join', ended)
    // A heartbeat that made it join again ends with that, well or not.
    this.#consumer.on('consumer:rejoin' as 'consumer:group:rejoin', ended)
  }

  #reassign(): void {
    this.#assigning = this.#assigning.then(() => this.#assign()).catch(() => undefined)
  }

  async #assign(): Promise<void> {
    const assignments = this.#consumer.assignments ?? []
    const mine = new Set(assignments.flatMap(({ topic, partitions }) => partitions.map((part) => `${topic}:${part}`)))
    for (const [key, { reader }] of this.#assigned) {
      if (mine.has(key)) continue
      reader.close()
      this.#assigned.delete(key)
    }
    const topics = [...new Set(assignments.map(({ topic }) => topic))]
    const isNew = topics.filter((topic) => [...mine].some((key) => key.startsWith(`${topic}:`)))
    if ([...mine].every((key) => this.#assigned.has(key))) return
    const { log, group, open } = this.#options
    const [committed, bounds] = await this.#insist(() => Promise.all([log.committed(group, isNew), log.bounds(isNew)]))
    for (const { topic, partitions } of this.#consumer.assignments ?? []) {
      for (const partition of partitions) {
        const key = `${topic}:${partition}`
        const begin = bounds.get(topic)?.get(partition)?.begin
        if (this.#assigned.has(key) || begin === undefined) continue
        const next = notBefore(begin, committed.get(topic)?.get(partition) ?? begin)
        const reader = open(topic, partition, next)
        this.#assigned.set(key, { topic, partition, next, reader, committed: next, cut: begin })
      }
    }
  }

  async #insist<T>(ask: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await ask()
      } catch (error) {
        if (this.#stopped.signal.aborted) throw error
        await pause(PAUSE_MS)
      }
    }
  }

  async #fetchAll(): Promise<void> {
    while (!this.#stopped.signal.aborted) {
      await this.#assigning
      const wanted = [...this.#assigned.values()].filter(({ reader }) => reader.wants)
      if (wanted.length === 0) {
        await pause(IDLE_MS)
        continue
      }
      const asked = wanted.map(({ topic, partition, next }) => ({ topic, partition, next }))
      try {
        for (const fetched of await this.#options.log.fetch(this.#consumer, asked)) this.#deliver(fetched)
      } catch {
        if (this.#stopped.signal.aborted) return
        // Leaders may have moved, records before the place have been cut off, or a topic been removed.
        this.#consumer.clearMetadata()
        await this.#dropRemoved()
          .then(() => this.#skipCut())
          .catch(() => undefined)
        await pause(PAUSE_MS)
      }
    }
  }

  #deliver({ topic, partition, records, next }: FetchedPartition): void {
    const assigned = this.#assigned.get(`${topic}:${partition}`)
    if (!assigned || next <= assigned.next) return
    assigned.next = next
    if (records.length > 0) assigned.reader.take(records)
  }

  async #dropRemoved(): Promise<void> {
    const there = new Set(await this.#options.log.topics(this.#options.reads))
    const removed = [...this.#topics].filter((topic) => !there.has(topic))
    if (removed.length === 0) return
    for (const [key, { topic, reader }] of this.#assigned) {
      if (there.has(topic)) continue
      reader.close()
      this.#assigned.delete(key)
    }
    for (const topic of removed) this.#topics.delete(topic)
    await this.#alone(async () => {
      for (const topic of removed) this.#consumer.topics.untrack(topic)
    })
    void this.#join()
  }

  /** A place before the first record that is kept moves up to it. */
  async #skipCut(): Promise<void> {
    const topics = [...new Set([...this.#assigned.values()].map(({ topic }) => topic))]
    const bounds = await this.#options.log.bounds(topics)
    for (const assigned of this.#assigned.values()) {
      const begin = bounds.get(assigned.topic)?.get(assigned.partition)?.begin
      if (begin !== undefined && assigned.next < begin) assigned.next = begin
    }
  }

  async #commit(): Promise<void> {
    const done = [...this.#assigned.values()].filter(({ reader, committed }) => reader.doneTo > committed)
    if (done.length === 0) return
    const offsets = done.map(({ topic, partition, reader }) => ({
      topic,
      partition,
      offset: reader.doneTo,
      leaderEpoch: -1,
    }))
    try {
      await this.#alone(() => this.#consumer.commit({ offsets }))
      done.forEach((assigned, index) => {
        assigned.committed = offsets[index]!.offset
      })
      await this.#cut()
    } catch {
      // It is read again from where it was committed last, and found to be done with.
    }
  }

  async #cut(): Promise<void> {
    if (performance.now() - this.#cutAt < CUT_MS) return
    this.#cutAt = performance.now()
    const { log, isCut } = this.#options
    const long = [...this.#assigned.values()].filter(({ topic, committed, cut }) => isCut(topic) && committed > cut)
    if (long.length === 0) return
    await log.cut(long.map(({ topic, partition, committed }) => ({ topic, partition, offset: committed })))
    for (const assigned of long) assigned.cut = assigned.committed
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
