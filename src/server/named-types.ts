import type { Principal } from '../access/principal.ts'
import { type Engine, TYPES_NAMED_MAX } from '../engine/engine.ts'
import { includes } from '../task/api-key.ts'
import { XQueueError } from '../task/errors.ts'
import type { ServerContext } from './route.ts'

/** A tenth of what all workers together may add, so that one key leaves room for others. */
export const TYPES_NAMED_PER_KEY_MAX = 100
/** A type that was named so long ago and does not exist any more, or never came to be, counts no longer. */
const SETTLED_MS = 60_000

/**
 * Task types that come into being because a worker names them. The engine bounds how many there are. Here one key is
 * kept from using them up, in each server process, and a worker learns why it is refused.
 */
export class NamedTypes {
  readonly #engine: Engine
  readonly #known: ServerContext['types']
  /** By key: the types that it has named first, and when. */
  readonly #byKey = new Map<string, Map<string, number>>()

  constructor(engine: Engine, known: ServerContext['types']) {
    this.#engine = engine
    this.#known = known
  }

  /** @throws XQueueError `too_many_types` */
  async admit(by: Principal, named: readonly string[]): Promise<void> {
    const unknown = await this.#unknownOf([...new Set(named)])
    const [name] = unknown
    if (name === undefined) return
    await this.#countFor(by, unknown)
    const { length } = await this.#engine.types()
    if (length + unknown.length <= TYPES_NAMED_MAX) return
    throw tooMany(`there are ${length} task types, and a worker may name new ones up to ${TYPES_NAMED_MAX}`, name)
  }

  async #countFor({ id, name, bounds, scopes }: Principal, unknown: readonly string[]): Promise<void> {
    // With bounds it adds none; an operator may add as many as there may be.
    if (bounds !== null || includes(scopes, 'admin')) return
    const own = this.#byKey.get(id) ?? new Map<string, number>()
    this.#byKey.set(id, own)
    const isOver = () => own.size + unknown.filter((type) => !own.has(type)).length > TYPES_NAMED_PER_KEY_MAX
    if (isOver()) await this.#forgetGone(own)
    if (isOver()) throw tooMany(`${name} has named ${TYPES_NAMED_PER_KEY_MAX} new task types`, unknown[0]!)
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

function tooMany(why: string, name: string): XQueueError {
  const remedy = `name a type that exists, or have an operator declare this one with POST /api/v1/types/${name}`
  return new XQueueError('too_many_types', `${why}, so "${name}" is not added: ${remedy}`)
}
