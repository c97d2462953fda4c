import type { Logger } from 'pino'
import type { Server } from '../client/call.ts'
import type { Config } from '../config/config.ts'
import type { RegisteredHandler } from '../worker/handlers.ts'
import { Worker } from '../worker/worker.ts'
import { RemoteSource } from './remote-source.ts'

/** A server, and the name of the worker there; default host, process and a random part. */
export interface RemoteServer extends Server {
  id?: string | undefined
}

/**
 * Starts a worker that takes its tasks from a server over HTTP.
 * @throws XQueueError the refusal of the server, such as `unauthorized`, or `engine_unavailable`
 */
export async function startRemoteWorker(
  { id, ...server }: RemoteServer,
  config: Pick<Config, 'concurrency' | 'claimAhead' | 'shutdownMs' | 'logLinesMax'>,
  handlers: ReadonlyMap<string, RegisteredHandler>,
  logger: Logger,
): Promise<Worker> {
  const source = new RemoteSource(server, (types, why) => {
    const remedy = 'set them at the server (`xqueue limit`, `xqueue declare`) or with each task'
    logger.warn({ types, why }, `the server does not take the settings of handlers: ${remedy}`)
  })
  const worker = new Worker({
    queue: source,
    handlers,
    logger,
    concurrency: config.concurrency,
    claimAhead: config.claimAhead,
    shutdownMs: config.shutdownMs,
    keepsLogs: config.logLinesMax > 0,
    ...(id ? { id } : {}),
  })
  await source.register(worker.identity)
  await worker.start()
  return worker
}
