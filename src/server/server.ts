import type { IncomingMessage } from 'node:http'
import type { Server as TlsServer } from 'node:tls'
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
import type { Access } from '../access/access.ts'
import type { AuditLog } from '../access/audit.ts'
import type { Certificate } from '../access/certificate.ts'
import type { IdentityProvider } from '../access/identity-provider.ts'
import { withoutTokens } from '../access/masking.ts'
import { Newcomers } from '../access/newcomers.ts'
import type { RouteScope } from '../access/principal.ts'
import type { Engine } from '../engine/engine.ts'
import { type ErrorCode, XQueueError } from '../task/errors.ts'
import { CRON_FORMAT, TIMEZONE_FORMAT } from '../task/schedule-input.ts'
import { TASK_LIMITS } from '../task/task.ts'
import { DURATION_FORMAT, type KnownType } from '../task/task-input.ts'
import type { RegisteredHandler } from '../worker/handlers.ts'
import { guard } from './access.ts'
import { ANSWERS } from './answers.ts'
import { batchRoutes } from './batches.ts'
import { readBodies } from './bodies.ts'
import { Callers } from './caller.ts'
import {
  admitKnown,
  answerUnreadable,
  connectionOptions,
  PATIENCE,
  type Patience,
  upgradesAt,
  watchConnections,
} from './connections.ts'
import { eventRoutes } from './events.ts'
import { addHeaders } from './headers.ts'
import { keyRoutes } from './keys.ts'
import { KnownTypes } from './known-types.ts'
import { leaseRoutes } from './leases.ts'
import { loginRoutes } from './login.ts'
import { type CountSubmissions, engineMetrics, requestMetrics, submissionMetrics } from './metrics.ts'
import { documentApi } from './openapi.ts'
import { OPERATIONS } from './operations.ts'
import { pageRoutes } from './page.ts'
import { answerProblems, sendProblem, toXQueueError } from './problems.ts'
import { refusalsOf } from './refusals.ts'
import { scheduleRoutes } from './schedules.ts'
import { CURSOR_FORMAT } from './schemas.ts'
import { sessionRoutes } from './session.ts'
import { subscriptionRoutes } from './subscriptions.ts'
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
  /** Who may do what; null: everybody everything. */
  access?: Access | null
  /** Logs people in to the dashboard; `redirectUrl` is where it sends them back, null: to the host that was asked. */
  identity?: { provider: IdentityProvider; redirectUrl: string | null } | null
  /** Where changes and refusals are written; default nowhere. */
  audit?: AuditLog | null
  /** Whether what a Host header names is this server; default anything. */
  servesHost?: (host: string | undefined) => boolean
  /** Path below which a proxy serves this server, as in `/queue`; default none. It may be stripped or sent along. */
  basePath?: string
  /** Other sites whose pages may call the API. */
  corsOrigins?: readonly string[]
  /** Proxies whose word for the client's address is believed. */
  trustedProxies?: readonly string[]
  /** With it, the server speaks TLS. */
  tls?: Certificate | null
  patience?: Patience
  /** Shared with other ports of the process; default its own. */
  newcomers?: Newcomers
}

/** What the routes tell of it: whether it works, and where the page finds it. */
export interface LiveStatus {
  check(): { name: string; ok: boolean; detail: string }
  readonly browser: { path: string; prefix: string } | null
  /** Where subscribers find it: null, at this server. */
  readonly subscribeAt: { url: string | null; prefix: string }
}

/** What the routes are given. */
export interface ServerContext extends ServerOptions {
  access: Access | null
  hasTls: boolean
  basePath: string
  startedAt: number
  /** As the caller of the present request may use them. */
  countSubmissions: CountSubmissions
  types: { of(type: string): Promise<KnownType | null>; forget(type: string): void }
  limits: { taskBytesMax: number; batchBytesMax: number }
  /** Fires when the server closes: streams and waiting calls end. */
  closing: AbortSignal
}

/** One call: its documentation is generated from the same schemas that validate it. */
export interface Route {
  method: 'GET' | 'POST' | 'PATCH' | 'DELETE'
  url: string
  /** Who may call it. */
  scope: RouteScope
  /** Changes nothing that an audit is interested in. */
  quiet?: boolean
  /** Tells of the whole server: nothing for keys with bounds. */
  whole?: boolean
  /** Half surrogate pairs in its body are repaired, not refused. */
  repairsText?: boolean
  summary: string
  params?: TSchema
  querystring?: TSchema
  body?: TSchema
  bodyLimit?: number
  /** What it answers, by status; only what is hidden needs none. */
  answers?: Readonly<Record<number, TSchema>>
  /** Its own ways to refuse, beside those that any call has. */
  refusals?: readonly ErrorCode[]
  /** Not an API call: left out of the documentation. */
  hidden?: boolean
  /** Looks at the request before its schemas do; throws what is to be answered. */
  before?: (request: FastifyRequest) => void
  handler: (request: FastifyRequest, reply: FastifyReply) => Promise<unknown>
}

export const AJV_OPTIONS = {
  removeAdditional: false,
  coerceTypes: false,
  allErrors: true,
  allowUnionTypes: true,
  useDefaults: false,
  verbose: true, // An error tells the schema that it comes of: see problems.ts
  formats: {
    [DURATION_FORMAT]: true as const,
    [CURSOR_FORMAT]: true as const,
    [CRON_FORMAT]: true as const,
    [TIMEZONE_FORMAT]: true as const,
  },
}
/** As long as a URL may be: the schemas say how long each is. */
const PARAM_CHARS_MAX = 16 * 1024
/** Room around the payload for the other fields of a task. */
const FIELDS_BYTES_MAX = 64 * 1024

/** The HTTP API, ready to listen. Closing it ends its event streams and waiting calls. */
export async function createServer(options: ServerOptions): Promise<FastifyInstance> {
  const {
    logger,
    version,
    registry,
    engine,
    access = null,
    corsOrigins = [],
    trustedProxies = [],
    tls = null,
    basePath = '',
  } = options
  const connections = {
    ...connectionOptions(options.patience ?? PATIENCE),
    shouldUpgradeCallback: upgradesAt(options.live?.browser?.path ?? null, basePath),
  }
  const closing = new AbortController()
  const server = fastify({
    loggerInstance: logger as FastifyBaseLogger,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: TASK_LIMITS.payloadBytesMax,
    requestTimeout: connections.requestTimeout,
    clientErrorHandler: answerUnreadable,
    // URLs that the router cannot read.
    frameworkErrors: (error, request, reply) => sendProblem(reply, request, toXQueueError(error, request)),
    forceCloseConnections: 'idle',
    return503OnClosing: false, // It would be no problem document: see refuseWhileClosing.
    trustProxy: trustedProxies.length > 0 && [...trustedProxies],
    ...(tls ? { https: { ...connections, ...tls.pair } } : { http: connections }),
    rewriteUrl: ({ url = '/' }: IncomingMessage) => below(basePath, url),
    ajv: { customOptions: AJV_OPTIONS },
    routerOptions: { maxParamLength: PARAM_CHARS_MAX },
  })
  tls?.follow(server.server as unknown as TlsServer)
  // The schemas of answers are documentation: what is answered is written as it is.
  server.setSerializerCompiler(() => JSON.stringify)
  answerProblems(server)
  server.addHook('preClose', async () => closing.abort())
  const newcomers = options.newcomers ?? new Newcomers({ handshakeMs: connections.handshakeTimeout })
  watchConnections(server, newcomers, tls !== null)
  if (logger.isLevelEnabled('debug')) {
    server.addHook('onResponse', async (request, reply) => {
      const url = withoutTokens(request.url.split('?')[0]!) // What is asked may be nobody's business, or a token.
      request.log.debug({ method: request.method, url, status: reply.statusCode }, 'answered')
    })
  }
  const countSubmissions = submissionMetrics(registry)
  requestMetrics(server, registry, countSubmissions)
  await addHeaders(server, corsOrigins, tls !== null)
  refuseWhileClosing(server, closing.signal)
  guard(server, {
    access,
    audit: options.audit ?? null,
    servesHost: options.servesHost ?? (() => true),
    origins: corsOrigins,
  })
  admitKnown(server, newcomers)
  readBodies(server)

  await documentApi(server, version, basePath)
  engineMetrics(options)
  const callers = new Callers(engine)
  // Behind the reading of the body, in whose events a caller would be lost.
  server.addHook('preHandler', (request, _reply, done) => callers.run(request.principal, done))
  const types = new KnownTypes(engine, options.handlers)
  const context: ServerContext = {
    ...options,
    engine: callers.engine,
    access,
    hasTls: tls !== null,
    basePath,
    startedAt: options.startedAt ?? Date.now(),
    countSubmissions,
    types: {
      of: async (type) => (callers.mayUse(type) ? types.of(type, callers.isConfined()) : null),
      forget: (type) => types.forget(type),
    },
    limits: {
      taskBytesMax: TASK_LIMITS.payloadBytesMax + FIELDS_BYTES_MAX,
      batchBytesMax: TASK_LIMITS.batchBytesMax,
    },
    closing: closing.signal,
  }
  const resources = [
    taskRoutes,
    batchRoutes,
    typeRoutes,
    scheduleRoutes,
    leaseRoutes,
    eventRoutes,
    subscriptionRoutes,
    sessionRoutes,
    loginRoutes,
    keyRoutes,
    systemRoutes,
  ]
  for (const route of [...resources, pageRoutes].flatMap((make) => make(context))) add(server, route)
  add(server, {
    method: 'GET',
    url: '/metrics',
    scope: 'read',
    whole: true,
    summary: 'Prometheus metrics',
    answers: ANSWERS.metrics,
    handler: async (_request, reply) => reply.type(registry.contentType).send(await registry.metrics()),
  })
  server.get('/openapi.json', { schema: { hide: true }, config: { scope: 'open' } }, async () => server.swagger())
  return server
}

/** The URL of a request without the path of the proxy, which may have stripped it already. */
function below(basePath: string, url: string): string {
  if (basePath === '') return url
  if (url !== basePath && !url.startsWith(`${basePath}/`) && !url.startsWith(`${basePath}?`)) return url
  const rest = url.slice(basePath.length)
  return rest.startsWith('/') ? rest : `/${rest}`
}

/** A connection that is open may bring more requests than the one that it is kept for. */
function refuseWhileClosing(server: FastifyInstance, closing: AbortSignal): void {
  server.addHook('onRequest', (_request, _reply, done) => {
    done(closing.aborted ? new XQueueError('shutting_down', 'this server is shutting down') : undefined)
  })
}

function add(server: FastifyInstance, route: Route): void {
  const {
    method,
    url,
    scope,
    quiet = false,
    whole = false,
    repairsText = false,
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
    config: { scope, quiet, whole, repairsText },
    schema: {
      summary,
      description: scope === 'open' ? 'Needs no key.' : `Scope: \`${scope}\``,
      security: securityOf(scope),
      ...(operation ? { operationId: operation.id, tags: [operation.tag] } : { hide: true }),
      ...(params ? { params } : {}),
      ...(querystring ? { querystring } : {}),
      ...(body ? { body } : {}),
      ...(answers ? { response: { ...refusalsOf(route), ...answers } } : {}),
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

/** Any one of these is enough. */
function securityOf(scope: RouteScope): Record<string, []>[] {
  if (scope === 'open') return []
  return [{ key: [] }, { cookie: [] }, ...(scope === 'listen' ? [{ token: [] as [] }] : [])]
}

/** A query string holds only text: numbers and flags in it are read as such. Bodies are taken as they are. */
function coerceQuery(query: Record<string, unknown>): void {
  for (const name of ['limit', 'offset']) {
    const value = query[name]
    if (typeof value === 'string' && /^-?\d{1,15}$/.test(value)) query[name] = Number(value)
  }
  if (query.purge === 'true' || query.purge === 'false') query.purge = query.purge === 'true'
}
