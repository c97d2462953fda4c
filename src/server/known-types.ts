import type { Queue } from '../queue/queue.ts'
import { type Ceilings, confinedCeilings, defaultsWithin } from '../task/ceilings.ts'
import { PayloadSchemas } from '../task/payload-schemas.ts'
import type { SpecDefaults } from '../task/task.ts'
import type { KnownType } from '../task/task-input.ts'
import { checkPayload, type RegisteredHandler } from '../worker/handlers.ts'

/** Time for which the store's answer about a type is cached. */
const BELIEVED_MS = 1_000

/** A type for callers that can overrule its handler, and for those that cannot. */
interface Known {
  free: KnownType
  confined: KnownType
}

/**
 * The task types that this server knows: from its own handlers, or from the reports of other workers. For the latter,
 * it validates payloads with the registered JSON Schema; the worker validates in full. A change of ceilings applies at
 * once in this process, and within a second in others.
 */
export class KnownTypes {
  readonly #queue: Queue
  readonly #own: ReadonlyMap<string, RegisteredHandler>
  readonly #told = new Map<string, { at: number; known: Promise<Known | null> }>()
  readonly #schemas = new PayloadSchemas()

  constructor(queue: Queue, handlers: ReadonlyMap<string, RegisteredHandler>) {
    this.#queue = queue
    this.#own = handlers
  }

  /**
   * Null for an unknown type: the store decides whether it can be submitted.
   * @param isConfined whether the values of the type's handler bound the caller's submissions
   */
  async of(type: string, isConfined: boolean): Promise<KnownType | null> {
    const told = this.#told.get(type)
    const isFresh = told !== undefined && performance.now() - told.at < BELIEVED_MS
    const known = await (isFresh ? told.known : this.#askOnce(type))
    return known && (isConfined ? known.confined : known.free)
  }

  /** Drops the cached answer after a change in this process. */
  forget(type: string): void {
    this.#told.delete(type)
  }

  #askOnce(type: string): Promise<Known | null> {
    const asked = { at: performance.now(), known: this.#ask(type) }
    this.#told.set(type, asked)
    const drop = () => {
      if (this.#told.get(type) === asked) this.#told.delete(type)
    }
    // Failures and unknown names are not cached.
    asked.known.then((known) => known === null && drop(), drop)
    return asked.known
  }

  async #ask(type: string): Promise<Known | null> {
    const [info] = await this.#queue.types({ names: [type] })
    const own = this.#own.get(type)
    if (own) {
      return knownAs(info?.ceilings ?? {}, own.defaults, (payload) => checkPayload(own, payload), own.usesOf)
    }
    if (!info) return null
    return knownAs(info.ceilings, info.defaults, (payload) => this.#schemas.check(info.payloadSchema, payload))
  }
}

function knownAs(
  set: Ceilings,
  handler: SpecDefaults,
  check: KnownType['check'],
  usesOf: KnownType['usesOf'] = null,
): Known {
  const under = (ceilings: Ceilings) => ({ defaults: defaultsWithin(ceilings, handler), ceilings, check, usesOf })
  return { free: under(set), confined: under(confinedCeilings(set, handler)) }
}
