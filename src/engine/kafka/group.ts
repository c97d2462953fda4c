import { setTimeout as sleep } from 'node:timers/promises'
import { type FetchedPartition, notBefore, type ReadRecord } from './fetched.ts'
import type { Log } from './log.ts'
import { Membership } from './membership.ts'
import { type Trouble, troubleAt } from './trouble.ts'

/** Takes the records of one partition, in order, and says how far they are done with. */
export interface PartitionReader {
  /** Whether it takes more now: a partition that does not is left alone, and no other is. */
  readonly wants: boolean
  take(records: readonly ReadRecord[]): void
  /** Everything before this offset is done with, and will never be needed again. */
  readonly doneTo: bigint
  /** Why it does not move on; null if nothing fails. */
  readonly trouble: Trouble | null
  close(): void
}

export interface GroupOptions {
  log: Log
  group: string
  /** Topics that are read by the group, of those that there are. */
  reads: (topic: string) => boolean
  /** Whether what is done with of a topic is dropped from it: nobody else is meant to read it. */
  isCut: (topic: string) => boolean
  open: (topic: string, partition: number, from: bigint) => PartitionReader
}

interface Assigned {
  topic: string
  partition: number
  next: bigint
  reader: PartitionReader
  committed: bigint
  cut: bigint
  /** Why nothing more can be fetched of it. */
  unread: Trouble | null
}

const COMMIT_MS = 500
const IDLE_MS = 20
const PAUSE_MS = 300
/** Closing waits no longer for a last commit. */
const GOOD_BYE_MS = 2_000
/** What is done with is cut off not more often than this. */
const CUT_MS = 10_000

/**
 * The loop that reads the partitions which this process has of the group. It fetches by itself rather than by the
 * client's streams: each partition is paused alone, and what was fetched of one that is revoked meanwhile goes nowhere.
 * An offset is committed only when everything before it is done with, which is true whoever commits it.
 */
export class Group {
  readonly #options: GroupOptions
  readonly #membership: Membership
  readonly #assigned = new Map<string, Assigned>()
  readonly #stopped = new AbortController()
  #assigning: Promise<void> = Promise.resolve()
  #fetching: Promise<void> | undefined
  #commitTimer: NodeJS.Timeout | undefined
  #cutAt = 0

  constructor(options: GroupOptions) {
    const { log, group, reads } = options
    this.#options = options
    this.#membership = new Membership(log, group, reads, () => this.#reassign())
  }

  /** The partitions of this process whose readers have not moved on for so long, and why. */
  stuck(forMs: number): (Trouble & { topic: string; partition: number })[] {
    const since = performance.now() - forMs
    return [...this.#assigned.values()].flatMap(({ topic, partition, reader, unread }) => {
      const trouble = reader.trouble ?? unread
      return trouble && trouble.since <= since ? [{ topic, partition, ...trouble }] : []
    })
  }

  start(): void {
    this.#membership.start()
    this.#fetching = this.#fetchAll()
    this.#commitTimer = setInterval(() => void this.#commit(), COMMIT_MS)
  }

  /** A topic was made: it is read from now on. */
  add(topic: string): void {
    this.#membership.add(topic)
  }

  async stop(): Promise<void> {
    clearInterval(this.#commitTimer)
    this.#stopped.abort()
    await Promise.race([this.#commit(), sleep(GOOD_BYE_MS)])
    for (const { reader } of this.#assigned.values()) reader.close()
    await this.#membership.leave()
    await this.#fetching
  }

  #reassign(): void {
    this.#assigning = this.#assigning.then(() => this.#assign()).catch(() => undefined)
  }

  async #assign(): Promise<void> {
    const mine = this.#mine()
    for (const key of this.#assigned.keys()) if (!mine.has(key)) this.#drop(key)
    const fresh = [...mine].filter(([key]) => !this.#assigned.has(key)).map(([, { topic }]) => topic)
    if (fresh.length === 0) return
    const { log, group, open } = this.#options
    const topics = [...new Set(fresh)]
    const [committed, bounds] = await this.#insist(() =>
      Promise.all([log.committed(group, topics), log.bounds(topics)]),
    )
    // Some may have been revoked meanwhile.
    for (const [key, { topic, partition }] of this.#mine()) {
      const begin = bounds.get(topic)?.get(partition)?.begin
      if (this.#assigned.has(key) || begin === undefined) continue
      const next = notBefore(begin, committed.get(topic)?.get(partition) ?? begin)
      const reader = open(topic, partition, next)
      this.#assigned.set(key, { topic, partition, next, reader, committed: next, cut: begin, unread: null })
    }
  }

  #mine(): Map<string, { topic: string; partition: number }> {
    const assignments = this.#membership.consumer.assignments ?? []
    const all = assignments.flatMap(({ topic, partitions }) => partitions.map((partition) => ({ topic, partition })))
    return new Map(all.map((place) => [`${place.topic}:${place.partition}`, place]))
  }

  #drop(key: string): void {
    this.#assigned.get(key)?.reader.close()
    this.#assigned.delete(key)
  }

  async #insist<T>(ask: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await ask()
      } catch (error) {
        if (this.#stopped.signal.aborted) throw error
        await sleep(PAUSE_MS)
      }
    }
  }

  async #fetchAll(): Promise<void> {
    while (!this.#stopped.signal.aborted) {
      const wanted = [...this.#assigned.values()].filter(({ reader }) => reader.wants)
      if (wanted.length === 0) {
        await sleep(IDLE_MS)
        continue
      }
      const asked = wanted.map(({ topic, partition, next }) => ({ topic, partition, next }))
      try {
        const round = await this.#options.log.fetch(this.#membership.consumer, asked)
        for (const assigned of wanted) assigned.unread = null
        for (const fetched of round) this.#deliver(fetched)
        // No partition has a leader just now.
        if (round.length === 0) await sleep(IDLE_MS)
      } catch (error) {
        if (this.#stopped.signal.aborted) return
        for (const assigned of wanted) assigned.unread = troubleAt(assigned.next, error, assigned.unread)
        await this.#recover().catch(() => undefined)
        await sleep(PAUSE_MS)
      }
    }
  }

  #deliver({ topic, partition, records, next }: FetchedPartition): void {
    const assigned = this.#assigned.get(`${topic}:${partition}`)
    if (!assigned || next <= assigned.next) return
    assigned.next = next
    if (records.length > 0) assigned.reader.take(records)
  }

  /** Leaders may have moved, a topic been removed, or records been cut off before they were read. */
  async #recover(): Promise<void> {
    this.#membership.consumer.clearMetadata()
    const removed = new Set(await this.#membership.dropRemoved())
    for (const [key, { topic }] of this.#assigned) if (removed.has(topic)) this.#drop(key)
    const topics = [...new Set([...this.#assigned.values()].map(({ topic }) => topic))]
    const bounds = await this.#options.log.bounds(topics)
    for (const assigned of this.#assigned.values()) {
      const begin = bounds.get(assigned.topic)?.get(assigned.partition)?.begin
      if (begin !== undefined) assigned.next = notBefore(begin, assigned.next)
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
      await this.#membership.alone(() => this.#membership.consumer.commit({ offsets }))
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
