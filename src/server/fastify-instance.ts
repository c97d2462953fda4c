import type { IncomingMessage } from 'node:http'
import type { Server as TlsServer } from 'node:tls'
import AjvCompiler from '@fastify/ajv-compiler'
import { type FastifyBaseLogger, type FastifyInstance, fastify, LogController } from 'fastify'
import { CRON_FORMAT, TIMEZONE_FORMAT } from '../task/schedule-input.ts'
import { TASK_LIMITS } from '../task/task.ts'
import { DURATION_FORMAT } from '../task/task-input.ts'
import { answerUnreadable, type connectionOptions, upgradesAt, useOriginForm } from './connections.ts'
import { linger } from './lingering.ts'
import { answerProblems, sendProblem, toXQueueError } from './problems.ts'
import type { ServerOptions } from './route.ts'
import { CURSOR_FORMAT } from './schemas.ts'

export const AJV_OPTIONS = {
  removeAdditional: false,
  coerceTypes: false,
  allErrors: true,
  allowUnionTypes: true,
  useDefaults: false,
  verbose: true, // Errors contain their schema: see problems.ts
  formats: {
    [DURATION_FORMAT]: true as const,
    [CURSOR_FORMAT]: true as const,
    [CRON_FORMAT]: true as const,
    [TIMEZONE_FORMAT]: true as const,
  },
}
/** Maximum length of a URL; the schemas bound each parameter. */
const PARAM_CHARS_MAX = 16 * 1024
/** Fastify with the limits, the validation and the error documents that every route has; no routes yet. */
export function fastifyInstance(
  { logger, live, trustedProxies = [], tls = null, basePath = '' }: ServerOptions,
  timeouts: ReturnType<typeof connectionOptions>,
): FastifyInstance {
  const shouldUpgradeCallback = upgradesAt(live?.webSocketPath ?? null, basePath)
  const connections = { ...timeouts, shouldUpgradeCallback }
  const server = fastify({
    loggerInstance: logger as FastifyBaseLogger,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: TASK_LIMITS.payloadBytesMax,
    requestTimeout: timeouts.requestTimeout,
    clientErrorHandler: answerUnreadable,
    // URLs that the router cannot parse.
    frameworkErrors: (error, request, reply) => {
      linger(request.raw, reply.raw)
      sendProblem(reply, request, toXQueueError(error, request))
    },
    forceCloseConnections: 'idle',
    return503OnClosing: false, // It would be no problem document: see refuseWhileClosing in server.ts.
    trustProxy: trustedProxies.length > 0 && [...trustedProxies],
    ...(tls ? { https: { ...connections, ...tls.pair } } : { http: connections }),
    rewriteUrl: (request: IncomingMessage) => {
      useOriginForm(request)
      return below(basePath, request.url ?? '/')
    },
    ajv: { customOptions: AJV_OPTIONS },
    schemaController: { compilersFactory: { buildValidator: compilerAtFirstUse() } },
    routerOptions: { maxParamLength: PARAM_CHARS_MAX },
  })
  tls?.follow(server.server as unknown as TlsServer)
  // The schemas of answers are documentation: serialization does not use them.
  server.setSerializerCompiler(() => JSON.stringify)
  answerProblems(server)
  return server
}

/** The URL of a request without the path of the proxy, which may have stripped it already. */
function below(basePath: string, url: string): string {
  if (basePath === '') return url
  if (url !== basePath && !url.startsWith(`${basePath}/`) && !url.startsWith(`${basePath}?`)) return url
  const rest = url.slice(basePath.length)
  return rest.startsWith('/') ? rest : `/${rest}`
}

/** Compiles each schema when it first checks a value: at the start, all of them would take a fifth of its time. */
function compilerAtFirstUse(): AjvCompiler.BuildCompilerFromPool {
  const build = AjvCompiler()
  return (schemas, options) => {
    const compile = build(schemas, options)
    return (...route) => {
      let compiled: ReturnType<typeof compile> | undefined
      const validate: { (value: unknown): unknown; errors?: unknown } = (value) => {
        compiled ??= compile(...route)
        const isValid = compiled(value)
        validate.errors = compiled.errors
        return isValid
      }
      return validate as ReturnType<typeof compile>
    }
  }
}
