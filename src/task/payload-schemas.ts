import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js'
import type { FieldError } from './errors.ts'
import type { Json } from './json.ts'

/** Validates payloads with the JSON Schemas that workers have registered. */
export class PayloadSchemas {
  readonly #ajv = new Ajv2020({ strict: false, allErrors: true, validateFormats: false, logger: false })
  readonly #compiled = new Map<string, ValidateFunction | null>()

  /** The errors of a payload, each with its path under `payload`. Without a schema, there are none. */
  check(schema: Json, payload: Json): FieldError[] {
    const validate = schema === null ? null : this.#compile(schema)
    try {
      if (!validate || validate(payload)) return []
    } catch {
      return [] // An endless schema such as {"$ref": "#"}: the worker validates it.
    }
    return (validate.errors ?? []).map(({ instancePath, message = 'is not valid' }) => ({
      path: `payload${instancePath.replaceAll('/', '.')}`,
      message,
    }))
  }

  #compile(schema: Json): ValidateFunction | null {
    const text = JSON.stringify(schema)
    let validate = this.#compiled.get(text)
    if (validate === undefined) {
      try {
        validate = this.#ajv.compile(schema as object)
      } catch {
        validate = null // The worker validates with schemas that this validator does not support.
      }
      this.#compiled.set(text, validate)
    }
    return validate
  }
}
