/** A JSON Schema. */
export type JsonSchema = { readonly [keyword: string]: unknown }
type Properties = Readonly<Record<string, JsonSchema>>

const optional = new WeakSet<JsonSchema>()

/**
 * Writes JSON Schemas. The last parameter holds further keywords. The properties of an object are required unless they
 * are optional.
 */
export const Type = {
  String: (more: JsonSchema = {}): JsonSchema => ({ type: 'string', ...more }),
  Integer: (more: JsonSchema = {}): JsonSchema => ({ type: 'integer', ...more }),
  Number: (more: JsonSchema = {}): JsonSchema => ({ type: 'number', ...more }),
  Boolean: (more: JsonSchema = {}): JsonSchema => ({ type: 'boolean', ...more }),
  Null: (more: JsonSchema = {}): JsonSchema => ({ type: 'null', ...more }),
  Unknown: (more: JsonSchema = {}): JsonSchema => more,
  Enum: (values: readonly string[], more: JsonSchema = {}): JsonSchema => ({ enum: [...values], ...more }),
  Union: (anyOf: readonly JsonSchema[], more: JsonSchema = {}): JsonSchema => ({ anyOf, ...more }),
  Array: (items: JsonSchema, more: JsonSchema = {}): JsonSchema => ({ type: 'array', items, ...more }),
  /** An object with any names. */
  Record: (values: JsonSchema, more: JsonSchema = {}): JsonSchema => ({
    type: 'object',
    additionalProperties: values,
    ...more,
  }),
  Object<P extends Properties>(properties: P, more: JsonSchema = {}): JsonSchema & { readonly properties: P } {
    const required = Object.keys(properties).filter((name) => !optional.has(properties[name]!))
    return { type: 'object', ...(required.length > 0 && { required }), properties, ...more }
  },
  Optional(schema: JsonSchema): JsonSchema {
    const copy = { ...schema }
    optional.add(copy)
    return copy
  },
}
