import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance } from 'fastify'
import { digestible, type OpenApi } from './digestible.ts'
import { LimitSchema } from './limits.ts'
import { TAGS } from './operations.ts'
import { dashboardFile } from './page.ts'
import { PROBLEM_EXAMPLE, Problem } from './refusals.ts'
import { ScheduleSchema } from './schedules.ts'
import { TaskSchema } from './schemas.ts'
import { HolderSchema, TaskTypeSchema } from './type-json.ts'

/** Answers' schemas that routes name with `ref`. */
export const SHARED = [TaskSchema, TaskTypeSchema, HolderSchema, LimitSchema, ScheduleSchema, Problem]

/** Scripts and styles of the documentation; some are inline. */
const DOCS_POLICY = [
  "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; font-src 'self'",
  "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
].join('; ')

const ABOUT = `Submit tasks, watch them, set limits.

Send a key as \`Authorization: Bearer KEY\`. Each call names the required scope. Pages log in for a cookie.
Errors are problem documents (RFC 9457): \`code\` is stable, and \`errors\` lists the invalid fields.`

/** Locations of credentials. A server without access control requires none. */
const SECURITY_SCHEMES = {
  key: { type: 'http', scheme: 'bearer', description: 'An API key (`xqueue keys create`) or a token of an issuer' },
  cookie: {
    type: 'apiKey',
    in: 'cookie',
    name: 'xqueue_session',
    description: 'Set by POST /api/v1/session, for pages of this server',
  },
  token: {
    type: 'apiKey',
    in: 'query',
    name: 'access_token',
    description: 'A subscription token, for EventSource, which cannot send headers',
  },
} as const

/** Documents the routes that are registered after it: `/docs` and `/openapi.json`. */
export async function documentApi(server: FastifyInstance, version: string, basePath: string): Promise<void> {
  for (const schema of SHARED) server.addSchema(schema)
  await server.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'XQueue',
        version,
        description: ABOUT,
        contact: { name: 'The XQueue project' },
        license: { name: 'MIT', url: 'https://opensource.org/license/mit' },
      },
      servers: [{ url: basePath || '/', description: 'This server' }],
      tags: Object.entries(TAGS).map(([name, description]) => ({ name, description })),
      components: { securitySchemes: SECURITY_SCHEMES },
    },
    refResolver: { buildLocalReference: ({ $id }) => String($id) },
    transformObject: (made) => digestible((made as { openapiObject: OpenApi }).openapiObject, PROBLEM_EXAMPLE) as never,
  })
  await server.register(swaggerUi, {
    routePrefix: '/docs',
    indexPrefix: basePath,
    staticCSP: DOCS_POLICY,
    theme: { title: 'XQueue API', favicon: faviconsOf(dashboardFile('icon.svg')) },
    // Without the bar that reads other documents, which the policy refuses.
    uiConfig: { layout: 'BaseLayout' },
  })
}

function faviconsOf(content: Buffer | null) {
  return content ? [{ filename: 'icon.svg', rel: 'icon', type: 'image/svg+xml', sizes: 'any', content }] : []
}
