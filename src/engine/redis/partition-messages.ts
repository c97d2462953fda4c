import type { EngineOptions } from '../options.ts'
import { NOTICES_BYTES_MAX } from './keys.ts'
import type { RedisStore } from './store.ts'

/**
 * What one partition has to tell another of tasks that wait for each other, see flows.lua. A notice is left in the step
 * that makes it necessary, and dropped when it has arrived: it may come twice, and is never lost.
 */
export class PartitionMessages {
  readonly #store: RedisStore
  readonly #options: EngineOptions
  readonly #left: (partition: number) => void

  /** @param left is told of a partition that may have notices of its own to deliver by now */
  constructor(store: RedisStore, options: EngineOptions, left: (partition: number) => void) {
    this.#store = store
    this.#options = options
    this.#left = left
  }

  /** @param told pairs of an id and a notice, `<partition> <what> <ref there> <other name> <more>` */
  async deliver(from: number, told: readonly string[], max: number): Promise<{ changed: number; more: boolean }> {
    const notices: { id: string; to: number; args: string[] }[] = []
    for (let at = 0; at < told.length; at += 2) {
      const [to, what, ref, name, ...more] = told[at + 1]!.split(' ')
      notices.push({ id: told[at]!, to: Number(to), args: [what!, ref!, name!, more.join(' ')] })
    }
    const arrived: string[] = []
    for (const [to, some] of Map.groupBy(notices, ({ to }) => to)) {
      const { isState, retention } = this.#options
      const args = [isState ? '1' : '', retention.ageMs, some.length, ...some.flatMap(({ args }) => args)]
      // What cannot be told now is told with the next sweep.
      const answer = await this.#store.run<string>('deliver', to, args).catch(() => 'away')
      if (answer !== 'done') continue
      arrived.push(...some.map(({ id }) => id))
      this.#left(to)
    }
    if (arrived.length > 0) await this.#store.run('notices', from, [arrived.length, ...arrived])
    // In characters, of which there are fewer: at worst the rest comes with the next sweep.
    const bytes = told.reduce((sum, text) => sum + text.length, 0)
    const isCut = notices.length >= max || bytes >= NOTICES_BYTES_MAX
    return { changed: arrived.length, more: arrived.length > 0 && isCut }
  }
}
