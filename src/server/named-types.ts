import type { Principal } from '../access/principal.ts'
import { type Queue, TYPES_NAMED_MAX } from '../queue/queue.ts'
import { includes } from '../task/api-key.ts'
import { XQueueError } from '../task/errors.ts'
import type { ServerContext } from './route.ts'

/** A tenth of what all workers together may add, so that one key leaves room for others. */
export const TYPES_NAMED_PER_KEY_MAX = 100
/** A name older than this is no longer counted if its type does not exist. */
const SETTLED_MS = 60_000

/**
 * Task types that workers create by naming them. The store bounds their number. This class bounds the share of one key
 * in each server process, and explains the refusal to the worker.
 */
export class NamedTypes {
  readonly #queue: Queue
  readonly #known: ServerContext['types']
  /** By key: the types that it named first, with the time. */
  readonly #byKey = new Map<string, Map<string, number>>()

  constructor(queue: Queue, known: ServerContext['types']) {
    this.#queue = queue
    this.#known = known
  }

  /** @throws XQueueError `too_many_types` */
  async admit(by: Principal, named: readonly string[]): Promise<void> {
    const unknown = await this.#unknownOf([...new Set(named)])
    const [name] = unknown
    if (name === undefined) return
    await this.#countFor(by, unknown)
    const { length } = await this.#queue.types()
    if (length + unknown.length <= TYPES_NAMED_MAX) return
    const room = Math.max(0, TYPES_NAMED_MAX - length)
    throw tooMany(`there are ${length} task types, and workers can create ${room} more`, unknown)
  }

  async #countFor({ id, name, bounds, scopes }: Principal, unknown: readonly string[]): Promise<void> {
    // A key with bounds adds none; operators are bounded by the total only.
    if (bounds !== null || includes(scopes, 'admin')) return
    const own = this.#byKey.get(id) ?? new Map<string, number>()
    this.#byKey.set(id, own)
    const added = () => unknown.filter((type) => !own.has(type))
    const isOver = () => own.size + added().length > TYPES_NAMED_PER_KEY_MAX
    if (isOver()) await this.#forgetGone(own)
    if (isOver()) {
      const room = TYPES_NAMED_PER_KEY_MAX - own.size
      throw tooMany(`${name} has created ${own.size} task types, and its workers can create ${room} more`, added())
    }
    for (const type of unknown) own.set(type, performance.now())
  }

  async #forgetGone(own: Map<string, number>): Promise<void> {
    const settled = [...own].filter(([, at]) => performance.now() - at > SETTLED_MS).map(([type]) => type)
    for (const type of await this.#unknownOf(settled)) own.delete(type)
  }

  async #unknownOf(types: readonly string[]): Promise<string[]> {
    const found = await Promise.all(types.map((type) => this.#known.of(type)))
    return types.filter((_, index) => found[index] === null)
  }
}

function tooMany(why: string, added: readonly string[]): XQueueError {
  const remedy = `use existing types, or let an operator declare new ones, as with POST /api/v1/types/${added[0]}`
  return new XQueueError('too_many_types', `${why}, so ${notCreated(added, 'types')}: ${remedy}`)
}

/** What happens to new names of a call for which there is no room: all of them are refused. */
export function notCreated(added: readonly string[], kind: 'types' | 'limits'): string {
  if (added.length === 1) return `"${added[0]}" is not created`
  return `none of the ${added.length} new ${kind} of this call is created`
}
