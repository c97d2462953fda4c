import type { Logger } from 'pino'
import type { App, Parts } from './app.ts'
import { keyOfEnvironment } from './client/client.ts'
import type { Config } from './config/config.ts'
import type { SettingName } from './config/settings.ts'
import type { FetchHandle } from './fetch-handler.ts'
import { type Handle, handleOf } from './mount.ts'
import { XQueueError } from './task/errors.ts'
import type { Handlers, Log } from './worker/handler.ts'

type Camel<Name extends string> = Name extends `${infer Head}-${infer Tail}`
  ? `${Head}${Capitalize<Camel<Tail>>}`
  : Name

/**
 * The settings of docs/reference/cli.md in camelCase: `retentionAge` for `--retention-age`. Durations are seconds or a
 * text with units. Environment variables and configuration files are not read.
 */
export type Settings = {
  [Name in Exclude<SettingName, 'handlers'> as Camel<Name>]?: string | number | boolean | readonly string[] | undefined
}

export interface XQueueOptions extends Settings {
  /** The handlers, or the path of a file that exports them, which handlers with `isolate` need. */
  handlers?: Handlers | string
  /** A log of the kind of Pino's; default lines of JSON on standard error. */
  logger?: Log
  /** Ends a start that waits for its store. */
  signal?: AbortSignal
}

export interface ServerOptions extends XQueueOptions {
  /** False: no port; use `handler` or `fetch` in another HTTP server. Default true. */
  listen?: boolean
}

export interface WorkerOptions extends XQueueOptions {
  /** Takes tasks from this server over HTTP, not from a store: `https://queue.example.com`. */
  server?: string
  /** With `server`: its key; default that of the environment, XQUEUE_KEY. */
  key?: string | undefined
  /**
   * With `server`: the name in the list of workers, up to 100 characters without control characters; default host,
   * process and a random part.
   */
  workerId?: string
}

/** What was started in this process. Stop it before the process ends. */
export interface Running extends AsyncDisposable {
  /** Address of the server; null if it does not listen. */
  readonly address: string | null
  /** Types of the handlers. */
  readonly types: readonly string[]
  /** Accepts no more calls and tasks, lets running tasks finish for up to `shutdown` (30 s), and closes the store. */
  stop(): Promise<void>
  /** The same at once: running tasks are released and run again elsewhere. */
  stopNow(): Promise<void>
}

export interface RunningServer extends Running {
  /** Answers requests of another HTTP server: `app.use('/queue', handler)`. */
  readonly handler: Handle
  /** Answers requests of the Fetch API: `app.all('/queue/*', (c) => xqueue.fetch(c.req.raw))` in Hono. */
  readonly fetch: FetchHandle
}

/**
 * Starts server and worker in this process. Without `mqtt`, nothing is published over MQTT.
 * @throws XQueueError `invalid_config` | `invalid_handlers` | `engine_unavailable` | `engine_unusable`
 */
export function startXQueue(options: ServerOptions = {}): Promise<RunningServer> {
  return startServing(options, true)
}

/** Starts a server without a worker in this process. */
export function startServer(options: ServerOptions = {}): Promise<RunningServer> {
  return startServing(options, false)
}

/** Starts a worker without a server in this process, on the store or over HTTP. */
export async function startWorker(options: WorkerOptions): Promise<Running> {
  const { server, key = keyOfEnvironment(), workerId: id, ...rest } = options
  const config = await configOf(rest)
  if (server === undefined) return runningOf(await start(rest, config, { server: false, worker: true }))
  if (rest.engine !== undefined) {
    throw new XQueueError('invalid_config', 'server and engine are both set: a worker uses one of them')
  }
  const { startRemoteApp } = await import('./app.ts')
  const logger = await loggerOf(rest, config)
  const handlers = await handlersOf(rest)
  return runningOf(await startRemoteApp({ url: server, key: key ?? null, id }, config, logger, handlers, rest.signal))
}

async function startServing({ listen = true, ...options }: ServerOptions, worker: boolean): Promise<RunningServer> {
  const config = await configOf(options)
  const app = await start(options, config, { server: true, worker, listens: listen })
  const handler = handleOf(app.handle!)
  const { fetchHandleOf } = await import('./fetch-handler.ts')
  return { ...runningOf(app), handler, fetch: fetchHandleOf(handler) }
}

/** Loads the parts of a process here: a file with handlers imports this package too, and needs none of them. */
async function start(options: XQueueOptions, config: Config, parts: Parts): Promise<App> {
  const { startApp } = await import('./app.ts')
  return startApp(config, parts, await loggerOf(options, config), await handlersOf(options), options.signal)
}

async function handlersOf({ handlers = {} }: XQueueOptions) {
  const { loadHandlers, normalizeHandlers } = await import('./worker/handlers.ts')
  if (typeof handlers !== 'string') return normalizeHandlers(handlers)
  return normalizeHandlers(await loadHandlers(handlers), handlers)
}

async function loggerOf({ logger }: XQueueOptions, config: Config): Promise<Logger> {
  if (logger) return (await import('./own-logger.ts')).ownLogger(logger)
  return (await import('./logger.ts')).createLogger(config)
}

async function configOf({ handlers: _, logger: __, signal: ___, ...settings }: XQueueOptions): Promise<Config> {
  const given = Object.entries({ mqtt: 'off', ...settings }).filter(([, value]) => value !== undefined)
  const dashed = given.map(([name, value]) => [
    name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`),
    String(value),
  ])
  const { configOfOptions } = await import('./config/config.ts')
  return configOfOptions(Object.fromEntries(dashed), 'the options')
}

function runningOf({ address, types, stop, stopNow }: App): Running {
  return { address, types, stop, stopNow, [Symbol.asyncDispose]: stop }
}
