import type { Engine } from '../engine/engine.ts'
import type { Json } from '../task/json.ts'
import { PayloadSchemas } from '../task/payload-schemas.ts'
import type { KnownType } from '../task/task-input.ts'
import { checkPayload, type RegisteredHandler } from '../worker/handlers.ts'

/** How long what another process's worker has said of a type is believed. */
const BELIEVED_MS = 1_000

/**
 * The task types as this server knows them: by the handlers it has loaded, else by what workers elsewhere have told the
 * engine. There a payload is checked by the JSON Schema that its validator gave; the worker checks it in full.
 */
export class KnownTypes {
  readonly #engine: Engine
  readonly #own: ReadonlyMap<string, KnownType>
  readonly #told = new Map<string, { at: number; type: Promise<KnownType | null> }>()
  readonly #schemas = new PayloadSchemas()

  constructor(engine: Engine, handlers: ReadonlyMap<string, RegisteredHandler>) {
    this.#engine = engine
    this.#own = new Map(
      [...handlers].map(([type, handler]) => [
        type,
        { defaults: handler.defaults, check: (payload: Json) => checkPayload(handler, payload) },
      ]),
    )
  }

  /** Null for a type that nothing is known of: the engine will say whether it may be submitted. */
  async of(type: string): Promise<KnownType | null> {
    const own = this.#own.get(type)
    if (own) return own
    const told = this.#told.get(type)
    if (told && Date.now() - told.at < BELIEVED_MS) return told.type
    const asked = this.#ask(type)
    this.#told.set(type, { at: Date.now(), type: asked })
    // What failed, and names that anybody makes up, are not kept.
    const known = await asked.catch((error: unknown) => {
      this.#told.delete(type)
      throw error
    })
    if (known === null) this.#told.delete(type)
    return known
  }

  async #ask(type: string): Promise<KnownType | null> {
    const [info] = await this.#engine.types({ names: [type] })
    if (!info) return null
    return { defaults: info.defaults, check: (payload) => this.#schemas.check(info.payloadSchema, payload) }
  }
}
