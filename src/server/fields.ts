import { type JsonSchema, Type } from '../task/json-schema.ts'

/** Parts of answers' schemas. They document answers without filtering them; a fuzzer compares all answers with them. */

export const orNull = (type: 'string' | 'integer' | 'number', more = {}) => ({ type: [type, 'null'], ...more })
export const time = (description: string) => Type.String({ format: 'date-time', description })
export const timeOrNull = (description: string) => orNull('string', { format: 'date-time', description })
export const count = (description: string) => Type.Integer({ minimum: 0, description })
export const json = (description: string) => ({ description })
export const seconds = (description: string) => Type.Number({ minimum: 0, description: `${description}, in seconds` })
export const nullable = (schema: object, description: string) => ({ oneOf: [schema, { type: 'null' }], description })
/** Titles become names of schemas in the document: see digestible.ts. */
export const titled = (title: string, schema: JsonSchema) => ({ ...schema, title }) as JsonSchema
export const described = (schema: JsonSchema, description: string) => ({ ...schema, description }) as JsonSchema
export const listOf = (name: string, items: JsonSchema, title: string) =>
  Type.Object({ [name]: Type.Array(items), count: Type.Integer() }, { title })
/** Refers to a schema of `SHARED` in openapi.ts. */
export const ref = (name: string) => ({ $ref: `${name}#` })
export const ofText = (type: string, description: string): JsonSchema =>
  ({ description, content: { [type]: { schema: { type: 'string' } } } }) as unknown as JsonSchema
