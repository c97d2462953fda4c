import type { Reply } from './redis-connection.ts'

/**
 * The store, as the list of partitions needs it: the maximum number of partitions, and the step that reads and extends
 * the list.
 */
interface ListedIn {
  readonly count: number
  run<Answer extends Reply>(step: 'partitions', partition: number, args: (string | number)[]): Promise<Answer>
}

/**
 * The partitions that have ever had a type. Operations on all partitions cover only these, because most of the many
 * possible partitions of a cluster stay empty. The first partition holds the list; if a failover loses an entry, the
 * next process that uses that partition adds it again.
 */
export class Partitions {
  readonly #database: ListedIn
  /** Partitions in use, as far as this process knows. */
  readonly #used = new Set<number>()
  readonly #listed = new Set<number>()

  constructor(database: ListedIn) {
    this.#database = database
    // With a single partition there is nothing to read.
    if (database.count === 1) this.#used.add(0)
  }

  /** Marks a partition as used, for all processes. */
  async add(partition: number): Promise<void> {
    this.#used.add(partition)
    if (this.#database.count > 1 && !this.#listed.has(partition)) await this.used()
  }

  /** The number of partitions in use, as far as this process knows. */
  get count(): number {
    return this.#used.size
  }

  /** The list may have been lost: it is written again. */
  forget(): void {
    this.#listed.clear()
  }

  /** This process uses the partition. */
  note(partition: number): void {
    this.#used.add(partition)
  }

  async used(): Promise<number[]> {
    if (this.#database.count > 1) {
      const missing = [...this.#used].filter((partition) => !this.#listed.has(partition))
      const listed = (await this.#database.run<string[]>('partitions', 0, [missing.length, ...missing])).map(Number)
      this.#listed.clear()
      for (const partition of listed) {
        this.#listed.add(partition)
        this.#used.add(partition)
      }
    }
    return [...this.#used].sort((a, b) => a - b)
  }

  /** Calls `ask` for each partition in use; for the known ones while the list is read. */
  async each<Answer>(ask: (partition: number) => Promise<Answer>): Promise<Answer[]> {
    const known = [...this.#used]
    if (this.#database.count === 1) return [await ask(0)]
    const [answers, used] = await Promise.all([Promise.all(known.map(ask)), this.used()])
    const more = used.filter((partition) => !known.includes(partition))
    return [...answers, ...(await Promise.all(more.map(ask)))]
  }
}
