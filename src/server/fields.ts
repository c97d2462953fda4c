import { type TSchema, Type } from 'typebox'

/** Parts of answers' schemas. They document answers without filtering them; a fuzzer compares all answers with them. */

export const orNull = (type: 'string' | 'integer' | 'number', more = {}) =>
  Type.Unsafe({ type: [type, 'null'], ...more })
export const time = (description: string) => Type.String({ format: 'date-time', description })
export const timeOrNull = (description: string) => orNull('string', { format: 'date-time', description })
export const count = (description: string) => Type.Integer({ minimum: 0, description })
export const json = (description: string) => Type.Unsafe<unknown>({ description })
export const seconds = (description: string) => Type.Number({ minimum: 0, description: `${description}, in seconds` })
export const nullable = (schema: object, description: string) =>
  Type.Unsafe({ oneOf: [schema, { type: 'null' }], description })
/** Titles become names of schemas in the document: see digestible.ts. */
export const titled = (title: string, schema: TSchema) => ({ ...schema, title }) as TSchema
export const described = (schema: TSchema, description: string) => ({ ...schema, description }) as TSchema
export const listOf = (name: string, items: TSchema, title: string) =>
  Type.Object({ [name]: Type.Array(items), count: Type.Integer() }, { title })
/** Refers to a schema of `SHARED` in openapi.ts. */
export const ref = (name: string) => Type.Unsafe({ $ref: `${name}#` })
export const ofText = (type: string, description: string): TSchema =>
  ({ description, content: { [type]: { schema: { type: 'string' } } } }) as unknown as TSchema
