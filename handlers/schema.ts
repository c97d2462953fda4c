import type { StandardSchemaV1 } from '@standard-schema/spec'
import type { Static, TSchema } from 'typebox'
import { Compile } from 'typebox/compile'

/** A TypeBox schema as a Standard Schema validator, which is what handlers take. */
export function standard<Schema extends TSchema>(schema: Schema): StandardSchemaV1<Static<Schema>> {
  const validator = Compile(schema)
  const validate = (value: unknown) => {
    if (validator.Check(value)) return { value: value as Static<Schema> }
    const issues = validator.Errors(value).map(({ instancePath, message }) => ({
      message,
      path: instancePath.split('/').slice(1),
    }))
    return { issues: issues.length > 0 ? issues : [{ message: 'does not match the schema' }] }
  }
  const jsonSchema = {
    input: () => JSON.parse(JSON.stringify(schema)),
    output: () => JSON.parse(JSON.stringify(schema)),
  }
  return { '~standard': { version: 1, vendor: 'typebox', validate, jsonSchema } as never }
}
