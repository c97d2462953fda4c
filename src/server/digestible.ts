import { OPERATIONS } from './operations.ts'

/**
 * Converts the request schemas to a document for client generators, which support a part of JSON Schema only: they need
 * names, types at enumerations, and objects without conditions. Omitted rules (fields that exclude each other) are
 * still checked, and described in text.
 */

export interface OpenApi {
  paths: Record<string, Record<string, Described>>
  components: { schemas: Record<string, Schema> }
}
interface Described {
  operationId?: string
  requestBody?: { required?: boolean; content: Record<string, Content> }
  responses: Record<string, { content?: Record<string, Content> }>
}
interface Content {
  schema?: Schema
  example?: unknown
}
type Schema = { [keyword: string]: unknown; title?: string; properties?: Record<string, Schema> }

interface Conditions {
  required?: string[]
  minProperties?: number
  anyOf?: object[]
}

/** Relations between fields, which no generator supports. */
const CONDITIONS = ['anyOf', 'allOf', 'not', 'uniqueItems'] as const
/** Keywords whose values are not schemas. */
const DATA = new Set(['example', 'examples', 'default', 'enum', 'required', 'const'])

export function digestible(document: OpenApi, problem: unknown): OpenApi {
  const made = structuredClone(document)
  for (const [path, methods] of Object.entries(made.paths)) {
    for (const [method, described] of Object.entries(methods)) {
      const route = `${method.toUpperCase()} ${path.replaceAll(/\{(\w+)\}/g, ':$1')}`
      complete(described, OPERATIONS[route]!, problem)
    }
  }
  const { schemas } = made.components
  for (const [name, schema] of Object.entries(schemas)) schemas[name] = named<Schema>(schema, schemas)
  made.paths = named(made.paths, schemas)
  return made
}

function complete(described: Described, operation: (typeof OPERATIONS)[string], problem: unknown): void {
  const { id, request, answer } = operation
  const name = id[0]!.toUpperCase() + id.slice(1)
  const { requestBody, responses } = described
  const body = requestBody?.content['application/json']
  if (body?.schema) {
    const { required = [], minProperties = 0, anyOf } = body.schema as Conditions
    // A missing body counts as `{}`, so the body is required only if `{}` is invalid.
    requestBody!.required = required.length + minProperties > 0 || anyOf !== undefined
    body.schema.title ??= `${name}Request`
    if (request) body.example = request
  }
  let isFirst = true
  for (const [status, { content = {} }] of Object.entries(responses)) {
    for (const [type, media] of Object.entries(content)) {
      if (type === 'application/problem+json') media.example = problem
      else if (isFirst && status.startsWith('2') && answer !== undefined) media.example = answer
      if (media.schema?.type === 'object') media.schema.title ??= `${name}Result`
    }
    if (status.startsWith('2')) isFirst = false
  }
}

/** Moves schemas with a title to the shared schemas and refers to them. */
function named<T>(value: T, schemas: Record<string, Schema>): T {
  if (Array.isArray(value)) return value.map((item) => named(item, schemas)) as never
  if (typeof value !== 'object' || value === null) return value
  const simplified = simplify(value as Schema)
  const entries = Object.entries(simplified).map(([key, item]) => [key, DATA.has(key) ? item : named(item, schemas)])
  const { title, ...schema } = Object.fromEntries(entries) as Schema
  if (typeof title !== 'string') return Object.fromEntries(entries) as never
  schemas[title] ??= { ...schema, title }
  return { $ref: `#/components/schemas/${title}` } as never
}

/** Generators do not support a union with null: the union stays, and the description mentions null. */
function withoutNull(schema: Schema): Schema {
  const [union, none, ...others] = (schema.oneOf ?? []) as Schema[]
  if (others.length > 0 || none?.type !== 'null' || !union?.oneOf) return schema
  const { oneOf: _, ...rest } = schema
  return { ...rest, ...union }
}

function simplify(given: Schema): Schema {
  const schema = withoutNull(given)
  const simplified = { ...schema }
  if (Array.isArray(schema.enum)) simplified.type ??= typeOfAll(schema.enum)
  if (schema.type === 'array' || schema.properties) for (const condition of CONDITIONS) delete simplified[condition]
  return simplified
}

function typeOfAll(values: readonly unknown[]): string | string[] {
  return values.includes(null) ? ['string', 'null'] : 'string'
}
