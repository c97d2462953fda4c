import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance } from 'fastify'
import { SHARED } from './answers.ts'

/** The documentation's own scripts and styles, some of which stand in its elements. */
const DOCS_POLICY = [
  "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; font-src 'self'",
  "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
].join('; ')

interface Document {
  paths?: Record<string, Record<string, { requestBody?: { required?: boolean; content: Record<string, Content> } }>>
}
interface Content {
  schema?: { required?: string[]; minProperties?: number; anyOf?: object[]; oneOf?: object[] }
}

/** Reads the routes that are registered after it: `/docs`, and what `/openapi.json` answers with. */
export async function documentApi(server: FastifyInstance, version: string): Promise<void> {
  for (const schema of SHARED) server.addSchema(schema)
  await server.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'XQueue', version, description: 'Submit tasks, watch them, set limits. Errors are RFC 9457.' },
      components: { securitySchemes: { key: { type: 'http', scheme: 'bearer' } } },
    },
    refResolver: { buildLocalReference: ({ $id }) => String($id) },
    transformObject: (made) => withOptionalBodies((made as { openapiObject: Document }).openapiObject),
  })
  await server.register(swaggerUi, { routePrefix: '/docs', staticCSP: DOCS_POLICY })
}

/** No body is read as `{}`, so it is required only where that would be refused. */
function withOptionalBodies(document: Document): Document {
  for (const { requestBody } of Object.values(document.paths ?? {}).flatMap((path) => Object.values(path))) {
    if (requestBody === undefined) continue
    const { required = [], minProperties = 0, anyOf, oneOf } = requestBody.content['application/json']?.schema ?? {}
    requestBody.required = required.length + minProperties > 0 || anyOf !== undefined || oneOf !== undefined
  }
  return document
}
