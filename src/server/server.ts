import type { Socket } from 'node:net'
import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  fastify,
  LogController,
} from 'fastify'
import type { Logger } from 'pino'
import type { Registry } from 'prom-client'
import type { TSchema } from 'typebox'
import type { Engine } from '../engine/engine.ts'
import { TASK_LIMITS } from '../task/task.ts'
import type { RegisteredHandler } from '../worker/handlers.ts'
import { eventRoutes } from './events.ts'
import { KnownTypes } from './known-types.ts'
import { leaseRoutes } from './leases.ts'
import { engineMetrics } from './metrics.ts'
import { pageRoutes } from './page.ts'
import { answerProblems } from './problems.ts'
import { systemRoutes } from './system.ts'
import { taskRoutes } from './tasks.ts'
import { typeRoutes } from './types.ts'

export interface ServerOptions {
  engine: Engine
  /** Those that this process has loaded; of other types it knows what their workers have told the engine. */
  handlers: ReadonlyMap<string, RegisteredHandler>
  logger: Logger
  version: string
  instanceId: string
  registry: Registry
  startedAt?: number
  /** Status over MQTT, if this process publishes it. */
  live?: LiveStatus | null
}

/** What the routes tell of it: whether it works, and where the page finds it. */
export interface LiveStatus {
  check(): { name: string; ok: boolean; detail: string }
  readonly browser: { path: string; prefix: string } | null
}

/** What the routes are given. */
export interface ServerContext extends ServerOptions {
  startedAt: number
  types: KnownTypes
  limits: { taskBytesMax: number; batchBytesMax: number }
  /** Fires when the server closes: streams and waiting calls end. */
  closing: AbortSignal
}

/** One call: its documentation is generated from the same schemas that validate it. */
export interface Route {
  method: 'GET' | 'POST' | 'DELETE'
  url: string
  summary: string
  params?: TSchema
  querystring?: TSchema
  body?: TSchema
  bodyLimit?: number
  /** Not an API call: left out of the documentation. */
  hidden?: boolean
  /** Looks at the request before its schemas do; throws what is to be answered. */
  before?: (request: FastifyRequest) => void
  handler: (request: FastifyRequest, reply: FastifyReply) => Promise<unknown>
}

/** Room around the payload for the other fields of a task. */
const FIELDS_BYTES_MAX = 64 * 1024
const REQUEST_MS_MAX = 120_000

/** The HTTP API, ready to listen. Closing it ends its event streams and waiting calls. */
export async function createServer(options: ServerOptions): Promise<FastifyInstance> {
  const { logger, version, registry, engine } = options
  const closing = new AbortController()
  const server = fastify({
    loggerInstance: logger as FastifyBaseLogger,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: TASK_LIMITS.payloadBytesMax,
    requestTimeout: REQUEST_MS_MAX,
    forceCloseConnections: 'idle',
    ajv: { customOptions: { removeAdditional: false, coerceTypes: false, allErrors: true, useDefaults: false } },
    routerOptions: { maxParamLength: 200 },
  })
  answerProblems(server)
  server.addHook('preClose', async () => closing.abort())
  closeUnusedConnections(server)
  if (logger.isLevelEnabled('debug')) {
    server.addHook('onResponse', async (request, reply) => {
      request.log.debug({ method: request.method, url: request.url, status: reply.statusCode }, 'answered')
    })
  }
  server.addHook('onRequest', (_request, reply, done) => {
    reply.header('X-Content-Type-Options', 'nosniff')
    done()
  })
  acceptEmptyBodies(server)

  await server.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'XQueue', version, description: 'Submit tasks, watch them, set limits. Errors are RFC 9457.' },
    },
  })
  await server.register(swaggerUi, { routePrefix: '/docs' })
  engineMetrics(engine, registry)
  const context: ServerContext = {
    ...options,
    startedAt: options.startedAt ?? Date.now(),
    types: new KnownTypes(engine, options.handlers),
    limits: {
      taskBytesMax: TASK_LIMITS.payloadBytesMax + FIELDS_BYTES_MAX,
      batchBytesMax: TASK_LIMITS.batchBytesMax,
    },
    closing: closing.signal,
  }
  const routes = [taskRoutes, typeRoutes, leaseRoutes, eventRoutes, systemRoutes, pageRoutes]
  for (const route of routes.flatMap((make) => make(context))) add(server, route)
  add(server, {
    method: 'GET',
    url: '/metrics',
    summary: 'Prometheus metrics',
    handler: async (_request, reply) => reply.type(registry.contentType).send(await registry.metrics()),
  })
  server.get('/openapi.json', { schema: { hide: true } }, async () => server.swagger())
  return server
}

function add(server: FastifyInstance, route: Route): void {
  const { method, url, summary, params, querystring, body, bodyLimit, hidden, before, handler } = route
  server.route({
    method,
    url,
    schema: {
      summary,
      ...(hidden ? { hide: true } : { tags: [url.split('/')[3] ?? 'system'] }),
      ...(params ? { params } : {}),
      ...(querystring ? { querystring } : {}),
      ...(body ? { body } : {}),
    },
    ...(bodyLimit ? { bodyLimit } : {}),
    preValidation: (request, _reply, done) => {
      if (querystring) coerceQuery(request.query as Record<string, unknown>)
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

/**
 * A connection over which nothing was asked yet (browsers open them ahead) counts as busy for Node, and would hold up
 * the close for a minute.
 */
function closeUnusedConnections(server: FastifyInstance): void {
  const unused = new Set<Socket>()
  server.server.on('connection', (socket: Socket) => {
    unused.add(socket)
    socket.once('close', () => unused.delete(socket))
  })
  server.addHook('onRequest', (request, _reply, done) => {
    unused.delete(request.raw.socket)
    done()
  })
  server.addHook('preClose', async () => {
    for (const socket of unused) socket.destroy()
  })
}

/** A query string holds only text: numbers in it are read as numbers. Bodies are taken as they are. */
function coerceQuery(query: Record<string, unknown>): void {
  if (typeof query.limit === 'string' && /^\d{1,6}$/.test(query.limit)) query.limit = Number(query.limit)
}

/** `POST …/retry` and the like need no body: an empty one with a JSON content type counts as `{}`. */
function acceptEmptyBodies(server: FastifyInstance): void {
  const parse = server.getDefaultJsonParser('error', 'error')
  server.removeContentTypeParser('application/json')
  server.addContentTypeParser('application/json', { parseAs: 'string' }, (request, body, done) => {
    if (body.length === 0) done(null, {})
    else parse(request, body as string, done)
  })
}
