import { pino } from 'pino'
import { Registry } from 'prom-client'
import { openQueue } from '../../src/queue/open.ts'
import { createServer } from '../../src/server/server.ts'
import { documentOf, table } from './markdown.ts'

/** Answers that any call may give, listed once. */
const ANY = ['401', '403', '408', '415', '431', '500', '503']

interface Operation {
  summary?: string
  description?: string
  parameters?: { name: string; in: string; schema?: Schema; description?: string }[]
  requestBody?: { content: Record<string, { schema?: Schema }> }
  responses?: Record<string, { description?: string }>
}
interface Schema {
  $ref?: string
  type?: string | string[]
  description?: string
  enum?: unknown[]
  oneOf?: Schema[]
  properties?: Record<string, Schema>
  required?: string[]
}

/** All calls, from the server's OpenAPI document. */
export async function http(): Promise<string> {
  const engine = await openQueue('sqlite::memory:')
  const logger = pino({ level: 'silent' })
  const registry = new Registry()
  const server = await createServer({
    queue: engine,
    handlers: new Map(),
    logger,
    version: '0',
    instanceId: '',
    registry,
  })
  const document = (await server.inject('/openapi.json')).json()
  await server.close()
  await engine.close()
  const { schemas } = document.components as { schemas: Record<string, Schema> }
  const paths = Object.entries(whole(document.paths, schemas) as Record<string, Record<string, Operation>>)
  const calls = paths.flatMap(([path, methods]) =>
    Object.entries(methods).flatMap(([method, operation]) => call(`${method.toUpperCase()} ${path}`, operation)),
  )
  const intro =
    'This page lists every call with its fields and answers. A running server shows the same with all schemas at `/docs`, and as\n' +
    'OpenAPI 3.1 at `/openapi.json`. Errors are `application/problem+json` (RFC 9457) with a stable `code`. Any call may answer\n' +
    `${ANY.join(', ')}; \`/openapi.json\` has the details.`
  return documentOf('# HTTP API', intro, ...calls)
}

/** The same without references: readers of the page see the fields where they are used. */
function whole<T>(value: T, schemas: Record<string, Schema>): T {
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map((item) => whole(item, schemas)) as T
  const { $ref, ...rest } = value as Schema
  const named = $ref === undefined ? {} : schemas[$ref.split('/').at(-1)!]
  return Object.fromEntries(
    Object.entries({ ...named, ...rest }).map(([key, item]) => [key, whole(item, schemas)]),
  ) as T
}

function call(
  title: string,
  { summary, description, parameters = [], requestBody, responses = {} }: Operation,
): string[] {
  const body = requestBody?.content['application/json']?.schema
  const fields = [
    ...parameters.map(({ name, in: where, schema, description: says }) =>
      row(name, where, schema, says ?? schema?.description),
    ),
    ...Object.entries(body?.properties ?? {}).map(([name, schema]) =>
      row(name, body?.required?.includes(name) ? 'body, required' : 'body', schema, schema.description),
    ),
  ]
  const answers = Object.entries(responses)
    .filter(([status]) => !ANY.includes(status))
    .map(([status, { description: says = '' }]) => `${status} ${says.replace('Default Response', '')}`.trim())
  return [
    `## ${title}`,
    ...[summary, description].filter((text) => text !== undefined),
    ...(fields.length === 0 ? [] : [table(['field', 'in', 'type', 'meaning'], fields)]),
    `Answers: ${answers.join(' · ')}`,
  ]
}

function row(name: string, where: string, schema: Schema | undefined, says: string | undefined): string[] {
  return [`\`${name}\``, where, typeOf(schema), says ?? '']
}

/** The type of a JSON Schema, or the values that it allows. */
export function typeOf(schema: Schema | undefined): string {
  const values = schema?.enum?.map((value) => `\`${value}\``).join(' ')
  const either = schema?.oneOf?.map(typeOf).join(', ')
  return values ?? either ?? [schema?.type ?? ''].flat().join(', ')
}
