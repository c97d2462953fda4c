import { familyOf } from '../../../task/uses.ts'
import { limitNotPlaceable } from '../../refusals.ts'
import type { Database } from '../client/database.ts'

const NAMES_AT_ONCE = 500

/**
 * The partitions of named limits in a cluster. A limit lies where the types that use it lie, and so do all limits whose
 * names have the same beginning, such as `tenant/`. Until a type uses it, it lies in the first partition.
 */
export class LimitHomes {
  readonly #database: Database

  constructor(database: Database) {
    this.#database = database
  }

  /** The partition of each limit; null while no type uses it. */
  of(names: readonly string[]): Promise<Map<string, number | null>> {
    return this.#ask(names, '')
  }

  /** @throws XQueueError `limit_not_placeable` for a limit that types of another partition use */
  async place(names: readonly string[], partition: number): Promise<void> {
    const homes = await this.#ask(names, partition)
    const elsewhere = names.find((name) => homes.get(name) !== partition)
    if (elsewhere !== undefined) throw limitNotPlaceable(elsewhere)
  }

  async #ask(names: readonly string[], partition: number | ''): Promise<Map<string, number | null>> {
    if (this.#database.count === 1) return new Map(names.map((name) => [name, 0]))
    const homes = new Map<string, number | null>()
    for (let from = 0; from < names.length; from += NAMES_AT_ONCE) {
      const some = names.slice(from, from + NAMES_AT_ONCE)
      const args = [partition, some.length, ...some.map((name) => familyOf(name) ?? name)]
      const answers = await this.#database.run<string[]>('limit_home', 0, args)
      some.forEach((name, index) => {
        homes.set(name, answers[index] === '' ? null : Number(answers[index]))
      })
    }
    return homes
  }
}
