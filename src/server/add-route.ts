import type { FastifyInstance } from 'fastify'
import type { RouteScope } from '../access/principal.ts'
import { Type } from '../task/json-schema.ts'
import { OPERATIONS } from './operations.ts'
import { refusalsOf } from './refusals.ts'
import type { Route } from './route.ts'
import { isRefusable } from './shed.ts'

/** A call that changes something would do it for more than a parameter says that it does not know. */
const NO_QUERY = Type.Object({}, { additionalProperties: false })
const isChange = (method: string) => method !== 'GET'

/** Registers a route with its schemas, its scope and its entry in the table of operations. */
export function addRoute(server: FastifyInstance, route: Route): void {
  const {
    method,
    url,
    scope,
    quiet = false,
    whole = false,
    repairsText = false,
    marksNumbers = false,
    summary,
    params,
    querystring,
    body,
    bodyLimit,
    answers,
    hidden,
    before,
    handler,
  } = route
  const operation = OPERATIONS[`${method} ${url}`]
  if (!operation && !hidden) throw new Error(`the route ${method} ${url} is not in the table of operations`)
  server.route({
    method,
    url,
    config: { scope, quiet, whole, refusable: isRefusable(route), repairsText, marksNumbers },
    schema: {
      summary,
      description: scope === 'open' ? 'Needs no key.' : `Scope: \`${scope}\``,
      security: securityOf(scope),
      ...(operation ? { operationId: operation.id, tags: [operation.tag] } : { hide: true }),
      ...(params ? { params } : {}),
      ...(querystring ? { querystring } : isChange(method) ? { querystring: NO_QUERY } : {}),
      ...(body ? { body } : {}),
      ...(answers ? { response: { ...refusalsOf(route), ...answers } } : {}),
    },
    ...(bodyLimit ? { bodyLimit } : {}),
    preValidation: (request, _reply, done) => {
      if (querystring) coerceQuery(request.query as Record<string, unknown>, querystring)
      if (request.body === undefined && method === 'POST') request.body = {}
      try {
        before?.(request)
        done()
      } catch (error) {
        done(error as Error)
      }
    },
    handler,
  })
}

/** Alternatives: one of them is sufficient. */
function securityOf(scope: RouteScope): Record<string, []>[] {
  if (scope === 'open') return []
  return [{ key: [] }, { cookie: [] }, ...(scope === 'listen' ? [{ token: [] as [] }] : [])]
}

/** Query strings contain text only: numbers and booleans are converted. Bodies are not converted. */
function coerceQuery(query: Record<string, unknown>, schema: object): void {
  const { properties } = schema as { properties: Record<string, { type?: string }> }
  for (const [name, value] of Object.entries(query)) {
    if (typeof value !== 'string' || !Object.hasOwn(properties, name)) continue
    const { type } = properties[name]!
    if (type === 'integer' && /^-?\d{1,15}$/.test(value)) query[name] = Number(value)
    if (type === 'boolean' && (value === 'true' || value === 'false')) query[name] = value === 'true'
  }
}
