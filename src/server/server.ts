import type { FastifyInstance } from 'fastify'
import { Newcomers } from '../access/newcomers.ts'
import { XQueueError } from '../task/errors.ts'
import { withoutTokens } from '../task/masking.ts'
import { TASK_LIMITS } from '../task/task.ts'
import { guard } from './access.ts'
import { addRoute } from './add-route.ts'
import { ADMISSION } from './admission.ts'
import { attemptRoutes } from './attempts.ts'
import { batchRoutes } from './batches.ts'
import { readBodies } from './bodies.ts'
import { Callers } from './caller.ts'
import { claimRoutes } from './claims.ts'
import { admitKnown, connectionOptions, PATIENCE, requireHost, watchConnections } from './connections.ts'
import { eventRoutes } from './events.ts'
import { explainRoutes } from './explain.ts'
import { fastifyInstance } from './fastify-instance.ts'
import { handlerRoutes } from './handlers.ts'
import { addHeaders } from './headers.ts'
import { historyRoutes } from './history.ts'
import { keyRoutes } from './keys.ts'
import { KnownTypes } from './known-types.ts'
import { leaseRoutes } from './leases.ts'
import { limitRoutes } from './limits.ts'
import { lingerAfterAnswers } from './lingering.ts'
import { loginRoutes } from './login.ts'
import { logRoutes } from './logs.ts'
import { engineMetrics, metricsRoutes, requestMetrics, submissionMetrics } from './metrics.ts'
import { documentApi } from './openapi.ts'
import { pageRoutes } from './page.ts'
import type { CountSubmissions, ServerContext, ServerOptions } from './route.ts'
import { scheduleRoutes } from './schedules.ts'
import { sessionRoutes } from './session.ts'
import { shedLoad } from './shed.ts'
import { subscriptionRoutes } from './subscriptions.ts'
import { systemRoutes } from './system.ts'
import { taskRoutes } from './tasks.ts'
import { turnRoutes } from './turns.ts'
import { typeRoutes } from './types.ts'
import { waitRoutes } from './waits.ts'

const RESOURCES = [
  taskRoutes,
  attemptRoutes,
  explainRoutes,
  logRoutes,
  historyRoutes,
  batchRoutes,
  handlerRoutes,
  typeRoutes,
  limitRoutes,
  scheduleRoutes,
  claimRoutes,
  leaseRoutes,
  turnRoutes,
  eventRoutes,
  waitRoutes,
  subscriptionRoutes,
  sessionRoutes,
  loginRoutes,
  keyRoutes,
  systemRoutes,
  pageRoutes,
  metricsRoutes,
]
/** Bytes for the other fields of a task beside its payload. */
const FIELDS_BYTES_MAX = 64 * 1024

/** The HTTP API, ready to listen. Closing it ends its event streams and waiting calls. */
export async function createServer(options: ServerOptions): Promise<FastifyInstance> {
  const { logger, version, registry, queue, access = null, corsOrigins = [], tls = null, basePath = '' } = options
  const timeouts = connectionOptions(options.patience ?? PATIENCE)
  const server = fastifyInstance(options, timeouts)
  const closing = new AbortController()
  server.addHook('preClose', async () => closing.abort())
  const newcomers =
    options.newcomers ?? new Newcomers({ isBounded: access !== null, handshakeMs: timeouts.handshakeTimeout })
  watchConnections(server, newcomers, tls !== null)
  if (logger.isLevelEnabled('debug')) logAnswers(server)
  const countSubmissions = submissionMetrics(registry)
  const countAnswer = requestMetrics(server, registry, countSubmissions)
  await addHeaders(server, corsOrigins, tls !== null)
  lingerAfterAnswers(server)
  requireHost(server)
  refuseWhileClosing(server, closing.signal)
  const { audit = null, servesHost = () => true } = options
  guard(server, { access, audit, servesHost, origins: corsOrigins })
  admitKnown(server, newcomers)
  shedLoad(server, { limits: options.admission ?? ADMISSION, registry, countAnswer })
  readBodies(server)

  await documentApi(server, version, basePath)
  engineMetrics(options)
  const callers = new Callers(queue)
  // After the body is read: its events would lose the caller.
  server.addHook('preHandler', (request, _reply, done) => callers.run(request.principal, done))
  const context = contextOf(options, callers, countSubmissions, closing.signal)
  for (const route of RESOURCES.flatMap((routesOf) => routesOf(context))) addRoute(server, route)
  server.get('/openapi.json', { schema: { hide: true }, config: { scope: 'open' } }, async () => server.swagger())
  return server
}

function contextOf(
  options: ServerOptions,
  callers: Callers,
  countSubmissions: CountSubmissions,
  closing: AbortSignal,
): ServerContext {
  const types = new KnownTypes(options.queue, options.handlers)
  return {
    ...options,
    queue: callers.queue,
    queueOfCaller: () => callers.own(),
    access: options.access ?? null,
    hasTls: (options.tls ?? null) !== null,
    basePath: options.basePath ?? '',
    startedAt: performance.now(),
    countSubmissions,
    types: {
      of: async (type) => (callers.mayUse(type) ? types.of(type, callers.isConfined()) : null),
      forget: (type) => types.forget(type),
    },
    limits: {
      taskBytesMax: TASK_LIMITS.payloadBytesMax + FIELDS_BYTES_MAX,
      batchBytesMax: TASK_LIMITS.batchBytesMax,
    },
    closing,
  }
}

function logAnswers(server: FastifyInstance): void {
  server.addHook('onResponse', async (request, reply) => {
    // A query may hold private data, and a path a token.
    const url = withoutTokens(request.url.split('?')[0]!)
    request.log.debug({ method: request.method, url, status: reply.statusCode }, 'answered')
  })
}

/** Refuses further requests on connections that stay open for a pending one. */
function refuseWhileClosing(server: FastifyInstance, closing: AbortSignal): void {
  server.addHook('onRequest', (_request, _reply, done) => {
    done(closing.aborted ? new XQueueError('shutting_down', 'this server is shutting down') : undefined)
  })
}
