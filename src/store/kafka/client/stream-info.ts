import type { StreamInfo } from '../../store.ts'
import { notBefore } from './fetched.ts'
import type { Log } from './log.ts'
import type { Topics } from './topics.ts'

/** Many clients read statistics frequently. */
const CACHE_MS = 1_000

/** Topics, partitions, lag and members, as `GET /api/v1/stream` shows them. */
export class StreamInfoReader {
  readonly #log: Log
  readonly #topics: Topics
  #seen: { at: number; stream: Promise<Omit<StreamInfo, 'length'> | null> } | undefined

  constructor(log: Log, topics: Topics) {
    this.#log = log
    this.#topics = topics
  }

  /** Null while Kafka is unavailable. */
  read(): Promise<Omit<StreamInfo, 'length'> | null> {
    const now = performance.now()
    if (!this.#seen || now - this.#seen.at > CACHE_MS) {
      this.#seen = { at: now, stream: this.#read().catch(() => null) }
    }
    return this.#seen.stream
  }

  async #read(): Promise<Omit<StreamInfo, 'length'>> {
    const { group } = this.#topics
    const names = (await this.#log.topics((topic) => this.#topics.isOwn(topic))).sort()
    const [bounds, committed, groups] = await Promise.all([
      this.#log.bounds(names),
      this.#log.committed(group, names),
      this.#log.admin.describeGroups({ groups: [group] }),
    ])
    const streams = names.map((name) => {
      const partitions = [...bounds.get(name)!].map(([partition, { begin, end }]) => {
        const done = committed.get(name)?.get(partition) ?? begin
        return { partition, begin: Number(begin), end: Number(end), lag: Number(end - notBefore(begin, done)) }
      })
      // Only topics that the group reads have a lag; for others, the number of their records.
      const sum = partitions.reduce((all, { lag }) => all + lag, 0)
      return { name, length: sum, partitions: partitions.sort((a, b) => a.partition - b.partition) }
    })
    const lagOf = new Map(streams.map(({ name, partitions }) => [name, partitions]))
    const consumers = [...(groups.get(group)?.members.values() ?? [])].map(({ id, clientId, assignments }) => {
      const held = [...(assignments?.values() ?? [])].flatMap(({ topic, partitions }) =>
        partitions.map((partition) => lagOf.get(topic)?.[partition]?.lag ?? 0),
      )
      return { name: `${clientId}/${id}`, pending: held.reduce((all, lag) => all + lag, 0), idle: 0 }
    })
    return { groups: 1, consumers, streams }
  }
}
