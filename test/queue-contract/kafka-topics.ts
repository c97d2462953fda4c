import { type Admin, ConfigResourceTypes, IncrementalAlterConfigOperationTypes } from '@platformatic/kafka'
import { vi } from 'vitest'
import { Prefixes } from './prefixes.ts'

/** Deletes all records of a partition. */
const TO_THE_END = -1n
/** A store that opens reads all lanes, so many of them would delay each of the next tests. */
const LANES_MAX = 8
const APPLIED_MS = 30_000

/** Sets of topics, each with its prefix, that one store after the other uses. */
export class TopicSets {
  readonly #admin: Admin
  readonly #prefixes = new Prefixes()

  constructor(admin: Admin) {
    this.#admin = admin
  }

  /** The prefix of topics without records, or of none. */
  take(): string {
    return this.#prefixes.take()
  }

  /** Deletes all records, which costs the broker a fifth of new topics. Topics that are too many are deleted. */
  async giveBack(prefix: string): Promise<void> {
    const names = (await this.#admin.listTopics()).filter((name) => name.startsWith(`${prefix}.`))
    if (names.filter((name) => name.startsWith(`${prefix}.lane.`)).length > LANES_MAX) {
      await this.#admin.deleteTopics({ topics: names })
      return
    }
    const { topics } = await this.#admin.metadata({ topics: names, forceUpdate: true })
    const partitionsOf = (name: string) =>
      Array.from({ length: topics.get(name)!.partitionsCount }, (_, partition) => ({ partition, offset: TO_THE_END }))
    // Kafka deletes no records of topics that are only compacted, and a broker applies a new policy a moment later.
    await this.#setPolicy(prefix, 'compact,delete')
    const emptied = { topics: names.map((name) => ({ name, partitions: partitionsOf(name) })) }
    await vi.waitFor(() => this.#admin.deleteRecords(emptied), { timeout: APPLIED_MS, interval: 10 })
    await this.#setPolicy(prefix, 'compact')
    this.#prefixes.giveBack(prefix)
  }

  async #setPolicy(prefix: string, value: string): Promise<void> {
    const config = { name: 'cleanup.policy', configOperation: IncrementalAlterConfigOperationTypes.SET, value }
    await this.#admin.incrementalAlterConfigs({
      resources: ['types', 'limits', 'schedules'].map((name) => ({
        resourceType: ConfigResourceTypes.TOPIC,
        resourceName: `${prefix}.${name}`,
        configs: [config],
      })),
    })
  }
}
