import { setTimeout as sleep } from 'node:timers/promises'
import { type FetchedPartition, notBefore, type ReadRecord } from './fetched.ts'
import type { Log } from './log.ts'
import { Membership } from './membership.ts'
import { type Trouble, troubleAt } from './trouble.ts'

/** Takes the records of one partition, in order, and reports how far they are done. */
export interface PartitionReader {
  /** Whether it takes more records now: if not, only this partition pauses. */
  readonly wants: boolean
  take(records: readonly ReadRecord[]): void
  /** Everything before this offset is done, and will never be needed again. */
  readonly doneTo: bigint
  /** The reason why it does not advance; null if nothing fails. */
  readonly trouble: Trouble | null
  close(): void
}

export interface GroupOptions {
  log: Log
  group: string
  /** Which of the existing topics the group reads. */
  reads: (topic: string) => boolean
  /** Whether records that are done are deleted from a topic, because it has no other readers. */
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
  /** The reason why nothing more can be fetched from it. */
  unread: Trouble | null
}

const COMMIT_MS = 500
const IDLE_MS = 20
const PAUSE_MS = 300
/** Time that closing waits for a last commit. */
const LEAVE_MS = 2_000
/** Minimum interval between deletions of records that are done. */
const CUT_MS = 10_000

/**
 * The loop that reads this process's partitions of the group. It fetches by itself instead of using the client's
 * streams: so each partition pauses separately, and records of a partition that is revoked meanwhile are dropped. An
 * offset is committed only when everything before it is done, so any member may commit it.
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

  /** The partitions of this process whose readers have not advanced for this long, and the reasons. */
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

  /** A topic was created: it is read from now on. */
  add(topic: string): void {
    this.#membership.add(topic)
  }

  async stop(): Promise<void> {
    clearInterval(this.#commitTimer)
    this.#stopped.abort()
    await Promise.race([this.#commit(), sleep(LEAVE_MS)])
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
        // No partition has a leader at present.
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

  /** Leaders may have moved, a topic may have been removed, or records may have been deleted before they were read. */
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
      // The partition is read again from its last commit, and its records prove to be done.
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
