/** The public API of XQueue. The command line is `xqueue`, the wire format is HTTP. */

export * from './client.ts'
export {
  type Running,
  type RunningServer,
  type ServerOptions,
  type Settings,
  startServer,
  startWorker,
  startXQueue,
  type WorkerOptions,
  type XQueueOptions,
} from './embed.ts'
export { type FastifyHost, fastifyXQueue } from './fastify-plugin.ts'
export type { FetchCaller, FetchHandle } from './fetch-handler.ts'
export type { Handle } from './mount.ts'
export { DoNotRetry, RateLimited, RetryAfter } from './task/retry.ts'
export {
  defineHandlers,
  type Handler,
  type HandlerContext,
  type Log,
  type LogLine,
  type TaskWith,
} from './worker/handler.ts'
