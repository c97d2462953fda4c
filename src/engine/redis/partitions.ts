import type { Reply } from './redis-connection.ts'

/** What the list asks of its store: how many partitions there is room for, and the step that reads and extends it. */
interface ListedIn {
  readonly count: number
  run<Answer extends Reply>(step: 'partitions', partition: number, args: (string | number)[]): Promise<Answer>
}

/**
 * The partitions that have ever had a type. What looks everywhere looks only there: of the many that a cluster has room
 * for, most stay empty. They are listed in the first one; should a failover lose one, whoever uses it adds it again.
 */
export class Partitions {
  readonly #store: ListedIn
  /** In use, as far as this process knows. */
  readonly #used = new Set<number>()
  readonly #listed = new Set<number>()

  constructor(store: ListedIn) {
    this.#store = store
    // Where there is only one, nothing has to be asked.
    if (store.count === 1) this.#used.add(0)
  }

  /** From now on a partition is in use, for everybody. */
  async add(partition: number): Promise<void> {
    this.#used.add(partition)
    if (this.#store.count > 1 && !this.#listed.has(partition)) await this.used()
  }

  /** How many are in use, as far as this process knows. */
  get count(): number {
    return this.#used.size
  }

  /** The list may be lost: it is written again. */
  forget(): void {
    this.#listed.clear()
  }

  /** This process works there. */
  note(partition: number): void {
    this.#used.add(partition)
  }

  async used(): Promise<number[]> {
    if (this.#store.count > 1) {
      const missing = [...this.#used].filter((partition) => !this.#listed.has(partition))
      const listed = (await this.#store.run<string[]>('partitions', 0, [missing.length, ...missing])).map(Number)
      this.#listed.clear()
      for (const partition of listed) {
        this.#listed.add(partition)
        this.#used.add(partition)
      }
    }
    return [...this.#used].sort((a, b) => a - b)
  }

  /** Asks something of each in use; of those that are known while it is asked whether there are more. */
  async each<Answer>(ask: (partition: number) => Promise<Answer>): Promise<Answer[]> {
    const known = [...this.#used]
    if (this.#store.count === 1) return [await ask(0)]
    const [answers, used] = await Promise.all([Promise.all(known.map(ask)), this.used()])
    const more = used.filter((partition) => !known.includes(partition))
    return [...answers, ...(await Promise.all(more.map(ask)))]
  }
}
