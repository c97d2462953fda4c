import type { Logger } from 'pino'
import type { Server } from '../client/call.ts'
import type { Config } from '../config/config.ts'
import { RETRY_DEFAULTS } from '../task/retry.ts'
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
  const source = new RemoteSource(server)
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
  warnOfSettings(handlers, logger)
  await worker.start()
  return worker
}

/** The API has no call with which a worker sets them. */
function warnOfSettings(handlers: ReadonlyMap<string, RegisteredHandler>, logger: Logger): void {
  for (const [type, { maxConcurrency, groupConcurrency, groupTurns, rate, defaults, retry, retention }] of handlers) {
    const set = {
      concurrency: maxConcurrency !== null,
      groupConcurrency: groupConcurrency !== null,
      groupTurns: groupTurns !== 'tasks',
      rate: rate !== null,
      retention: Object.keys(retention).length > 0,
      retry: Object.entries(RETRY_DEFAULTS).some(([name, value]) => retry[name as keyof typeof retry] !== value),
      'maxRetry, queueTimeout or processTimeout': Object.keys(defaults).length > 0,
    }
    const ignored = Object.entries(set).flatMap(([name, isSet]) => (isSet ? [name] : []))
    if (ignored.length === 0) continue
    const remedy = 'set them at the server (`xqueue limit`, `xqueue declare`) or with each task'
    logger.warn({ type, ignored }, `a worker over HTTP does not send these settings of its handler: ${remedy}`)
  }
}
