import type { StoreOptions } from '../../options.ts'
import type { Database } from '../client/database.ts'
import { MESSAGES_BYTES_MAX } from '../records/keys.ts'

/**
 * Messages between partitions about tasks that wait for each other, see flows.lua. A message is written in the step
 * that makes it necessary, and removed when it has arrived: it may arrive twice, and is never lost.
 */
export class PartitionMessages {
  readonly #database: Database
  readonly #options: StoreOptions
  readonly #left: (partition: number) => void

  /** @param left is called with a partition that may now have messages of its own to deliver */
  constructor(database: Database, options: StoreOptions, left: (partition: number) => void) {
    this.#database = database
    this.#options = options
    this.#left = left
  }

  /** @param written messages, `<partition> <what> <ref there> <other name> <more>` */
  async deliver(from: number, written: readonly { id: string; text: string }[], max: number) {
    const messages = written.map(({ id, text }) => {
      const [to, what, ref, name, ...more] = text.split(' ')
      return { id, to: Number(to), args: [what!, ref!, name!, more.join(' ')] }
    })
    const arrived: string[] = []
    for (const [to, some] of Map.groupBy(messages, ({ to }) => to)) {
      const { isState, retention } = this.#options
      const args = [isState ? '1' : '', retention.ageMs, some.length, ...some.flatMap(({ args }) => args)]
      // The next sweep delivers messages that cannot be delivered now.
      const answer = await this.#database.run<string>('deliver', to, args).catch(() => 'away')
      if (answer !== 'done') continue
      arrived.push(...some.map(({ id }) => id))
      this.#left(to)
    }
    if (arrived.length > 0) await this.#database.run('delivered', from, [arrived.length, ...arrived])
    // In characters, which are fewer than bytes: at worst the next sweep delivers the rest.
    const bytes = written.reduce((sum, { text }) => sum + text.length, 0)
    const isCut = messages.length >= max || bytes >= MESSAGES_BYTES_MAX
    return { changed: arrived.length, more: arrived.length > 0 && isCut }
  }
}
