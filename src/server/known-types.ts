import type { Engine } from '../engine/engine.ts'
import { type Ceilings, confinedCeilings, defaultsWithin } from '../task/ceilings.ts'
import { PayloadSchemas } from '../task/payload-schemas.ts'
import type { SpecDefaults } from '../task/task.ts'
import type { KnownType } from '../task/task-input.ts'
import { checkPayload, type RegisteredHandler } from '../worker/handlers.ts'

/** How long the engine's answer about a type is used again. */
const BELIEVED_MS = 1_000

/** A type for callers that may overrule its handler, and for those that may not. */
interface Known {
  free: KnownType
  confined: KnownType
}

/**
 * The task types as this server knows them: by the handlers that it has loaded, else by the reports of workers
 * elsewhere. Payloads of the latter are checked by the JSON Schema of their validator; the worker checks them in full.
 * Ceilings are in force at once where they were set, and in other processes a second later at most.
 */
export class KnownTypes {
  readonly #engine: Engine
  readonly #own: ReadonlyMap<string, RegisteredHandler>
  readonly #told = new Map<string, { at: number; known: Promise<Known | null> }>()
  readonly #schemas = new PayloadSchemas()

  constructor(engine: Engine, handlers: ReadonlyMap<string, RegisteredHandler>) {
    this.#engine = engine
    this.#own = handlers
  }

  /**
   * Null for a type that nothing is known of: the engine decides whether it may be submitted.
   * @param isConfined whether the caller may ask for no more than the handler of a type does
   */
  async of(type: string, isConfined: boolean): Promise<KnownType | null> {
    const told = this.#told.get(type)
    const isFresh = told !== undefined && Date.now() - told.at < BELIEVED_MS
    const known = await (isFresh ? told.known : this.#askOnce(type))
    return known && (isConfined ? known.confined : known.free)
  }

  /** A type was changed here. */
  forget(type: string): void {
    this.#told.delete(type)
  }

  #askOnce(type: string): Promise<Known | null> {
    const asked = { at: Date.now(), known: this.#ask(type) }
    this.#told.set(type, asked)
    const drop = () => {
      if (this.#told.get(type) === asked) this.#told.delete(type)
    }
    // Failures, and names that anybody makes up, are not kept.
    asked.known.then((known) => known === null && drop(), drop)
    return asked.known
  }

  async #ask(type: string): Promise<Known | null> {
    const [info] = await this.#engine.types({ names: [type] })
    const own = this.#own.get(type)
    if (own) return knownAs(info?.ceilings ?? {}, own.defaults, (payload) => checkPayload(own, payload))
    if (!info) return null
    return knownAs(info.ceilings, info.defaults, (payload) => this.#schemas.check(info.payloadSchema, payload))
  }
}

function knownAs(set: Ceilings, handler: SpecDefaults, check: KnownType['check']): Known {
  const under = (ceilings: Ceilings) => ({ defaults: defaultsWithin(ceilings, handler), ceilings, check })
  return { free: under(set), confined: under(confinedCeilings(set, handler)) }
}
