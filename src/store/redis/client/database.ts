import type { StoreOptions } from '../../store.ts'
import { partitionPrefix } from '../records/keys.ts'
import type { StepName } from './library.ts'
import { Partitions } from './partitions.ts'
import { RedisConnection, type Reply } from './redis-connection.ts'
import { CLUSTER_PARTITIONS, otherCount, type RedisUrl } from './redis-url.ts'

/** The steps of one Redis, on its partitions, and the time there. */
export class Database {
  readonly url: RedisUrl
  readonly link: RedisConnection
  /** Maximum number of partitions. */
  readonly count: number
  readonly partitions: Partitions
  /** Partitions that have answered this process: they can detect that they have lost everything. */
  readonly #met = new Set<number>()
  readonly #clock: StoreOptions['clock']
  readonly #prefixes: string[]
  /** Server's time less this machine's; leases and deadlines use the server's. */
  #aheadMs: number | null = null

  constructor(url: RedisUrl, clock: StoreOptions['clock'], restored: () => void) {
    this.url = url
    this.link = new RedisConnection(url, restored)
    this.count = url.partitions
    this.partitions = new Partitions(this)
    this.#prefixes = this.perPartition((partition) => partitionPrefix(url, partition))
    this.#clock = clock
  }

  /** @throws XQueueError `engine_unusable` if the cluster has the queue with another number of partitions */
  async checkCount(): Promise<void> {
    if (this.url.kind !== 'cluster') return
    const counts = ['', String(this.count), String(CLUSTER_PARTITIONS)]
    const recorded = Number(await this.link.run<string>('partition_count', 0, counts))
    if (recorded !== this.count) throw otherCount(this.url.prefix, recorded, this.count)
  }

  /** The partition of a type's tasks. */
  partitionOf(type: string): number {
    if (this.count === 1) return 0
    let hash = 0x811c9dc5
    for (let index = 0; index < type.length; index++) hash = Math.imul(hash ^ type.charCodeAt(index), 0x01000193)
    return (hash >>> 0) % this.count
  }

  /** The partition whose keys begin with `prefix`. */
  partitionBy(prefix: string): number {
    return this.#prefixes.indexOf(prefix)
  }

  /** Makes a value for each possible partition. */
  perPartition<T>(make: (partition: number) => T): T[] {
    return Array.from({ length: this.count }, (_, partition) => make(partition))
  }

  run<Answer extends Reply>(step: StepName, partition: number, args: readonly (string | number)[], isBrief = false) {
    const time = this.#clock === Date.now ? '' : String(this.#clock())
    const texts = [time, ...args.map((value) => (typeof value === 'string' ? value : String(value)))]
    return this.link.run<Answer>(step, partition, texts, isBrief)
  }

  /** An argument of steps that detect a loss: '1' if the partition has already answered such a step of this process. */
  wasMet(partition: number): '1' | '' {
    return this.#met.has(partition) ? '1' : ''
  }

  met(partition: number): void {
    this.#met.add(partition)
  }

  /** The server's time. */
  now(): number {
    return this.#clock() + (this.#aheadMs ?? 0)
  }

  /** Converts a time of the server to this machine's clock. */
  toLocal(time: number): number {
    return time - (this.#aheadMs ?? 0)
  }

  /** Learns the server's time from an answer: the answer with the shortest delay is the most exact. */
  sawTime(time: string): void {
    if (this.#clock !== Date.now) return
    const ahead = Number(time) - Date.now()
    const known = this.#aheadMs
    if (known === null || ahead > known || known - ahead > 1_000) this.#aheadMs = Math.abs(ahead) < 5 ? 0 : ahead
  }
}
