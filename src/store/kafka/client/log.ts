import { hostname } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { Admin, type BaseOptions, type ClusterMetadata, Consumer, Producer } from '@platformatic/kafka'
import type { XQueueError } from '../../../task/errors.ts'
import { Batcher } from '../../batcher.ts'
import { createTopics } from './create-topics.ts'
import { failureOf } from './failures.ts'
import { type FetchedPartition, fetchedOf, notBefore, type Wanted, wantedByNode } from './fetched.ts'
import type { KafkaUrl } from './kafka-url.ts'
import type { TopicPlan } from './topics.ts'

/** A record for a topic; a null value deletes the key from a compacted topic. */
export interface LogRecord {
  topic: string
  key: string | Buffer | null
  value: string | Buffer | null
  headers?: ReadonlyMap<string | Buffer, string | Buffer> | undefined
}

/** Approximate maximum size of one request. */
const SEND_BYTES_MAX = 1_000_000
const RECORD_OVERHEAD = 100
const SENDS_MAX = 1
const RETRIES = 5
const FETCH_BYTES_MAX = 8_388_608
const FETCH_WAIT_MS = 200
/** The newest and the oldest offset, in the form that Kafka requires. */
const LATEST = -1n
const EARLIEST = -2n

/** The first kept offset, and the offset of the next record, of each partition. */
export type Bounds = Map<number, { begin: bigint; end: bigint }>

/**
 * The connection to Kafka: writes records, reads them from any partition, creates topics. When a write resolves, all
 * replicas in sync have the records, exactly once even if they were sent again.
 */
export class Log {
  readonly url: KafkaUrl
  readonly options: BaseOptions
  readonly admin: Admin
  readonly #producer: Producer
  readonly #reader: Consumer
  readonly #sends: Batcher<LogRecord[], null>
  /** The error of the last write, until one succeeds. */
  #failure: XQueueError | null = null

  constructor(url: KafkaUrl, group: string) {
    this.url = url
    const { waitMs, tls, sasl, brokers } = url
    this.options = {
      clientId: `xqueue-${hostname()}-${process.pid}`,
      bootstrapBrokers: brokers,
      connectTimeout: Math.min(waitMs, 3_000),
      requestTimeout: waitMs,
      timeout: waitMs,
      retries: RETRIES,
      retryDelay: Math.ceil(waitMs / RETRIES / 2),
      ...(tls ? { tls } : {}),
      ...(sasl ? { sasl } : {}),
    }
    this.admin = new Admin({ ...this.options })
    this.#producer = new Producer({ ...this.options, idempotent: true, acks: -1 })
    this.#reader = new Consumer({ ...this.options, groupId: `${group}-reader`, maxWaitTime: FETCH_WAIT_MS })
    this.#sends = new Batcher((calls) => this.#send(calls), {
      weightOf: weigh,
      weightMax: SEND_BYTES_MAX,
      underWayMax: SENDS_MAX,
    })
  }

  /** @throws XQueueError `engine_unavailable` */
  async write(records: LogRecord[]): Promise<void> {
    if (records.length === 0) return
    await this.#inTime(Promise.all(inParts(records).map((part) => this.#sends.add(part))))
  }

  /**
   * Resolves if the next write can succeed, after one has failed.
   * @throws XQueueError `engine_unavailable` if not
   */
  async ready(): Promise<void> {
    if (this.#failure) await this.#inTime(this.metadata([]))
  }

  metadata(topics: string[]): Promise<ClusterMetadata> {
    return this.#ask(() => this.admin.metadata({ topics, forceUpdate: true }))
  }

  /** The existing topics that match. */
  async topics(fits: (topic: string) => boolean): Promise<string[]> {
    const all = await this.#ask(() => this.admin.listTopics())
    return all.filter(fits)
  }

  /** Creates missing topics, and waits until they can be used. */
  create(plans: readonly TopicPlan[]): Promise<void> {
    return this.#ask(() => createTopics(this.admin, this.url, plans))
  }

  async bounds(topics: readonly string[]): Promise<Map<string, Bounds>> {
    if (topics.length === 0) return new Map()
    const [begins, ends] = await Promise.all([this.offsetsAt(topics, EARLIEST), this.offsetsAt(topics, LATEST)])
    return new Map(
      [...ends].map(([topic, partitions]) => {
        const bounds = [...partitions].map(([partition, end]) => {
          const begin = begins.get(topic)?.get(partition) ?? 0n
          return [partition, { begin, end }] as const
        })
        return [topic, new Map(bounds)]
      }),
    )
  }

  /** For each partition the first offset whose record is not older than a time (ms), or the end. */
  async offsetsAt(topics: readonly string[], time: bigint): Promise<Map<string, Map<number, bigint>>> {
    const { topics: known } = await this.metadata([...topics])
    const partitionsOf = (name: string) =>
      Array.from({ length: known.get(name)!.partitionsCount }, (_, partitionIndex) => ({
        partitionIndex,
        timestamp: time,
      }))
    const asked = topics.map((name) => ({ name, partitions: partitionsOf(name) }))
    const answers = await this.#ask(() => this.admin.listOffsets({ topics: asked }))
    return new Map(
      answers.map(({ name, partitions }) => [
        name,
        new Map(partitions.map(({ partitionIndex, offset }) => [partitionIndex, offset])),
      ]),
    )
  }

  /** The committed offsets of a group; a partition without one is missing. */
  async committed(group: string, topics: readonly string[]): Promise<Map<string, Map<number, bigint>>> {
    if (topics.length === 0) return new Map()
    const answers = await this.#ask(() => this.admin.listConsumerGroupOffsets({ groups: [group] }))
    const found = new Map<string, Map<number, bigint>>()
    for (const { name, partitions } of answers.flatMap((answer) => answer.topics)) {
      const set = partitions.filter(({ committedOffset }) => committedOffset >= 0n)
      found.set(name, new Map(set.map(({ partitionIndex, committedOffset }) => [partitionIndex, committedOffset])))
    }
    return found
  }

  /**
   * Reads a topic from each partition's offset to its present end; several partitions together.
   * @param only these partitions; default all
   */
  async *read(
    topic: string,
    from: ReadonlyMap<number, bigint>,
    only?: readonly number[],
  ): AsyncGenerator<FetchedPartition> {
    const bounds = (await this.bounds([topic])).get(topic) ?? new Map()
    const wanted = new Map<number, Wanted>()
    for (const [partition, { begin, end }] of bounds) {
      const next = notBefore(begin, from.get(partition) ?? begin)
      if (next < end && (!only || only.includes(partition))) wanted.set(partition, { topic, partition, next })
    }
    this.#reader.topics.track(topic)
    while (wanted.size > 0) {
      const round = await this.fetch(this.#reader, [...wanted.values()])
      // No partition has a leader at present.
      if (round.length === 0) await sleep(FETCH_WAIT_MS)
      for (const fetched of round) {
        const { partition, next, records } = fetched
        const position = wanted.get(partition)
        if (!position) continue
        position.next = next
        const { end } = bounds.get(partition)!
        if (next >= end) wanted.delete(partition)
        if (records.length > 0) yield fetched
      }
    }
    this.#reader.topics.untrack(topic)
  }

  /** One round of fetching, from every node that leads one of the partitions. */
  fetch(consumer: Consumer, wanted: readonly Wanted[]): Promise<FetchedPartition[]> {
    return this.#ask(async () => {
      const metadata = await consumer.metadata({ topics: [...new Set(wanted.map(({ topic }) => topic))] })
      const rounds = [...wantedByNode(metadata, wanted)].map(async ([node, topics]) => {
        const options = { node, topics, maxBytes: FETCH_BYTES_MAX, maxWaitTime: FETCH_WAIT_MS, minBytes: 1 }
        return fetchedOf(await consumer.fetch(options), metadata, wanted)
      })
      return (await Promise.all(rounds)).flat()
    })
  }

  /** Deletes all records before the given offsets. */
  async cut(offsets: readonly { topic: string; partition: number; offset: bigint }[]): Promise<void> {
    const topics = [...Map.groupBy(offsets, ({ topic }) => topic)].map(([name, partitions]) => ({ name, partitions }))
    await this.#ask(() => this.admin.deleteRecords({ topics }))
  }

  async close(): Promise<void> {
    // Connections that do not close cleanly are cut: no caller waits for calls under way any more.
    await Promise.allSettled([this.#producer.close(), this.#reader.close(true), this.admin.close()])
  }

  async #send(calls: LogRecord[][]): Promise<null[]> {
    const messages = calls.flat().map(({ topic, key, value, headers }) => ({
      topic,
      ...(key === null ? {} : { key: bytesOf(key) }),
      ...(value === null ? {} : { value: bytesOf(value) }),
      ...(headers ? { headers: bytesOfHeaders(headers) } : {}),
    }))
    try {
      await this.#ask(() => this.#producer.send({ messages, idempotent: true, acks: -1 }))
      this.#failure = null
    } catch (error) {
      this.#failure = error as XQueueError
      throw error
    }
    return calls.map(() => null)
  }

  /** A call that takes longer continues, but its caller no longer waits for it. */
  async #inTime<T>(call: Promise<T>): Promise<T> {
    const { waitMs } = this.url
    const late = Promise.withResolvers<never>()
    const timer = setTimeout(() => {
      this.#failure = failureOf(new Error(`no answer for ${waitMs / 1_000} s`), this.url)
      late.reject(this.#failure)
    }, waitMs)
    call.catch(() => undefined)
    try {
      return await Promise.race([call, late.promise])
    } finally {
      clearTimeout(timer)
    }
  }

  async #ask<T>(call: () => Promise<T>): Promise<T> {
    try {
      return await call()
    } catch (error) {
      throw failureOf(error, this.url)
    }
  }
}

function weigh(records: LogRecord[]): number {
  let bytes = 0
  for (const { value } of records) bytes += RECORD_OVERHEAD + (value?.length ?? 0)
  return bytes
}

/** Splits a long list so that each part fits a request. */
function inParts(records: LogRecord[]): LogRecord[][] {
  const parts: LogRecord[][] = []
  let part: LogRecord[] = []
  let bytes = 0
  for (const record of records) {
    const more = weigh([record])
    if (part.length > 0 && bytes + more > SEND_BYTES_MAX) {
      parts.push(part)
      part = []
      bytes = 0
    }
    part.push(record)
    bytes += more
  }
  parts.push(part)
  return parts
}

function bytesOf(text: string | Buffer): Buffer {
  return typeof text === 'string' ? Buffer.from(text) : text
}

function bytesOfHeaders(headers: NonNullable<LogRecord['headers']>): Map<Buffer, Buffer> {
  return new Map([...headers].map(([name, value]) => [bytesOf(name), bytesOf(value)]))
}
