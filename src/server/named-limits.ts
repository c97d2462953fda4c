import type { Principal } from '../access/principal.ts'
import type { Queue } from '../queue/queue.ts'
import { includes } from '../task/api-key.ts'
import { XQueueError } from '../task/errors.ts'
import { notCreated } from './named-types.ts'

/** A hundredth of all named limits, so that one key leaves room for others. */
export const LIMITS_NAMED_PER_KEY_MAX = 100

/**
 * Named limits that workers create by declaring them. The store bounds their number; this class bounds the share of one
 * key in each server process.
 */
export class NamedLimits {
  readonly #queue: Queue
  /** By key: the limits that it has created. */
  readonly #byKey = new Map<string, Set<string>>()

  constructor(queue: Queue) {
    this.#queue = queue
  }

  /** @throws XQueueError `too_many_limits` */
  async admit({ id, name, scopes }: Principal, declared: readonly string[]): Promise<void> {
    if (declared.length === 0 || includes(scopes, 'admin')) return
    const known = new Set((await this.#queue.limits({ names: declared })).map((limit) => limit.name))
    const own = this.#byKey.get(id) ?? new Set()
    this.#byKey.set(id, own)
    const added = declared.filter((limit) => !known.has(limit) && !own.has(limit))
    if (own.size + added.length > LIMITS_NAMED_PER_KEY_MAX) await this.#forgetGone(own)
    if (own.size + added.length > LIMITS_NAMED_PER_KEY_MAX) {
      const room = LIMITS_NAMED_PER_KEY_MAX - own.size
      const why = `${name} has created ${own.size} named limits, and its workers can create ${room} more`
      const remedy = `let an operator create new ones, as with PUT /api/v1/limits/${encodeURIComponent(added[0]!)}`
      throw new XQueueError('too_many_limits', `${why}, so ${notCreated(added, 'limits')}: ${remedy}`)
    }
    for (const limit of added) own.add(limit)
  }

  async #forgetGone(own: Set<string>): Promise<void> {
    const kept = new Set((await this.#queue.limits({ names: [...own] })).map(({ name }) => name))
    for (const name of own) if (!kept.has(name)) own.delete(name)
  }
}
