import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js'
import type { FieldError } from './errors.ts'
import type { Json } from './json.ts'

/** Checks payloads by the JSON Schemas that handlers' validators have told. */
export class PayloadSchemas {
  readonly #ajv = new Ajv2020({ strict: false, allErrors: true, validateFormats: false, logger: false })
  readonly #compiled = new Map<string, ValidateFunction | null>()

  /** What is wrong with a payload, each with its path under `payload`. Without a schema, nothing is. */
  check(schema: Json, payload: Json): FieldError[] {
    const validate = schema === null ? null : this.#compile(schema)
    try {
      if (!validate || validate(payload)) return []
    } catch {
      return [] // A schema without an end, as in {"$ref": "#"}: that, too, is left to the worker.
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
        validate = null // A schema that this validator does not understand is left to the worker.
      }
      this.#compiled.set(text, validate)
    }
    return validate
  }
}
