/** A JSON schema, as written by the functions of `Type`. */
export interface JsonSchema {
  readonly [keyword: string]: unknown
}

type Options = JsonSchema

const optional = new WeakSet<JsonSchema>()

/**
 * Writes JSON schemas. The included handlers use TypeBox, which has these functions under the same names and TypeScript
 * types for them. Its 373 modules would take a fifth of the time in which a process starts.
 */
export const Type = {
  String: (options?: Options) => ({ type: 'string', ...options }),
  Integer: (options?: Options) => ({ type: 'integer', ...options }),
  Number: (options?: Options) => ({ type: 'number', ...options }),
  Boolean: (options?: Options) => ({ type: 'boolean', ...options }),
  Null: (options?: Options) => ({ type: 'null', ...options }),
  /** Any value. */
  Unknown: (options?: Options): JsonSchema => ({ ...options }),
  Enum: (values: readonly unknown[], options?: Options) => ({ enum: values, ...options }),
  Union: (schemas: readonly JsonSchema[], options?: Options) => ({ anyOf: schemas, ...options }),
  Array: (items: JsonSchema, options?: Options) => ({ type: 'array', items, ...options }),
  /** An object with any names. */
  Record: (values: JsonSchema, options?: Options) => ({
    type: 'object',
    patternProperties: { '^.*$': values },
    ...options,
  }),
  /** A property that an object may lack. A copy of it, such as one with another description, is required again. */
  Optional: <Schema extends JsonSchema>(schema: Schema): Schema => {
    const copy = { ...schema }
    optional.add(copy)
    return copy
  },
  Object: <Properties extends Readonly<Record<string, JsonSchema>>>(properties: Properties, options?: Options) => {
    const required = Object.keys(properties).filter((name) => !optional.has(properties[name]!))
    return { type: 'object', ...(required.length > 0 ? { required } : {}), properties, ...options }
  },
}
