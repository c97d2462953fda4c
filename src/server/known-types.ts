import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js'
import type { Engine, TypeInfo } from '../engine/engine.ts'
import type { FieldError } from '../task/errors.ts'
import type { Json } from '../task/json.ts'
import type { SpecDefaults } from '../task/task.ts'
import { checkPayload, type RegisteredHandler } from '../worker/handlers.ts'

/** What submissions of a type are completed and checked with. */
export interface KnownType {
  defaults: SpecDefaults
  check(payload: Json): FieldError[] | Promise<FieldError[]>
}

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
  readonly #ajv = new Ajv2020({ strict: false, allErrors: true, validateFormats: false, logger: false })
  readonly #compiled = new Map<string, ValidateFunction | null>()

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
    return info ? { defaults: info.defaults, check: this.#checkOf(info) } : null
  }

  #checkOf({ payloadSchema }: TypeInfo): KnownType['check'] {
    const validate = payloadSchema === null ? null : this.#compile(payloadSchema)
    return (payload) => {
      if (!validate || validate(payload)) return []
      return (validate.errors ?? []).map(({ instancePath, message = 'does not fit' }) => ({
        path: `payload${instancePath.replaceAll('/', '.')}`,
        message,
      }))
    }
  }

  #compile(schema: Json): ValidateFunction | null {
    const text = JSON.stringify(schema)
    let validate = this.#compiled.get(text)
    if (validate === undefined) {
      try {
        validate = this.#ajv.compile(schema as object)
      } catch {
        validate = null // A schema that this validator does not understand is left to the worker.
      }
      this.#compiled.set(text, validate)
    }
    return validate
  }
}
