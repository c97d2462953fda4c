import { randomUUID } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { FastifyInstance } from 'fastify'
import type { Logger } from 'pino'
import { Registry } from 'prom-client'
import { Access } from './access/access.ts'
import { AuditLog } from './access/audit.ts'
import { Certificate } from './access/certificate.ts'
import { clientAddress } from './access/client-address.ts'
import { isLocalName, refuseExposure } from './access/exposure.ts'
import { IdentityProvider } from './access/identity-provider.ts'
import { admitListeners } from './access/listeners.ts'
import { Newcomers } from './access/newcomers.ts'
import type { Config } from './config/config.ts'
import type { Live } from './notify/live.ts'
import { encrypted } from './queue/encrypted-queue.ts'
import { Encryption } from './queue/encryption.ts'
import { keyless } from './queue/keyless-queue.ts'
import { openQueue } from './queue/open.ts'
import { Outages } from './queue/outages.ts'
import { Patience } from './queue/patience.ts'
import type { Queue } from './queue/queue.ts'
import { redacted } from './queue/redacted-queue.ts'
import { Stalls } from './queue/stalls.ts'
import { Sweeper } from './queue/sweeper.ts'
import { type RemoteServer, startRemoteWorker } from './remote/remote-worker.ts'
import { whyBlocked } from './server/blocked-ports.ts'
import { PATIENCE } from './server/connections.ts'
import { limitStates } from './server/limit-targets.ts'
import { attemptMetrics, outageMetrics } from './server/metrics.ts'
import type { ServerOptions } from './server/route.ts'
import { Starting } from './server/starting.ts'
import { readFigures } from './server/system.ts'
import { type Bounds, boundsText } from './task/bounds.ts'
import { XQueueError } from './task/errors.ts'
import { redactionOf } from './task/redaction.ts'
import { BoundedQueue } from './tenants/bounded.ts'
import { flushSpans, unusableApi } from './trace/spans.ts'
import { version } from './version.ts'
import { announce, loadHandlers, normalizeHandlers, type RegisteredHandler } from './worker/handlers.ts'
import { Worker } from './worker/worker.ts'

const TENANTS_MAX = 1_000

/** Interval of the checks of health. A worker logs each turn that fails, and there may be thousands of workers. */
const CHECK_MS = { server: 3_000, worker: 30_000 } as const
const OPEN_ATTEMPT_MS = 100
/** Connections that the system accepts while the process is busy; others would be tried again after a second. */
const BACKLOG = 4_096

/** The parts of a process. */
export interface Parts {
  server: boolean
  worker: boolean
  /** False: the server does not listen; another server passes requests to `App.handle`. Default true. */
  listens?: boolean
}

export interface App {
  /** Address of the server; null without one, and if it does not listen. */
  address: string | null
  /** Answers a request; null without a server. */
  handle: ((request: IncomingMessage, response: ServerResponse) => void) | null
  /** The types that its worker runs, or that it accepts by its handlers without a worker. */
  types: readonly string[]
  /** Stops accepting, lets running tasks finish for the time of the setting, closes the queue. */
  stop(): Promise<void>
  /** The same at once: running tasks are released. */
  stopNow(): Promise<void>
}

/**
 * Puts a process together: queue → sweeper → worker → server → status over MQTT. It stops in the reverse order. If a
 * part fails at the start, the parts before it are stopped.
 *
 * @param handlers default: those of the file that the configuration names
 * @param stopping ends a start that waits for its store
 * @throws XQueueError `engine_unusable` | `engine_unavailable` | `invalid_handlers` | `invalid_config`
 */
export async function startApp(
  config: Config,
  parts: Parts,
  logger: Logger,
  handlers?: ReadonlyMap<string, RegisteredHandler>,
  stopping?: AbortSignal,
): Promise<App> {
  const listens = parts.server && (parts.listens ?? true)
  if (listens) await refuseExposure(config.host, config.auth !== 'off', config.insecure)
  const tls = listens && config.tls ? new Certificate(config.tls, logger) : null
  giveHandlersTheirSettings(config)
  handlers ??= normalizeHandlers(config.handlers === null ? {} : await loadHandlers(config.handlers), config.handlers)
  warnOfUnusableApi(logger)
  const patience = new Patience(config.storeWaitMs, logger, stopping)
  const stops = new Stops(logger)
  stops.add(async () => tls?.close())
  try {
    // First, so that a process that cannot listen changes nothing in the store.
    const starting = listens ? await bind(config, tls, logger) : null
    stops.add(async () => starting?.close())
    const queue = await openStore(config, patience)
    stops.add(() => queue.close())
    const sweeper = new Sweeper(queue, logger)
    sweeper.start()
    stops.add(() => sweeper.stop())
    const registry = new Registry()
    const worker = parts.worker ? workerOf(config, queue, handlers, logger, registry) : null
    await patience.with(() => (worker ? worker.start() : announce(queue, handlers)))
    if (worker) stops.add(() => worker.stop())
    const access = parts.server ? await patience.with(() => accessOf(config, queue, logger)) : null
    patience.over()
    const audit = access && new AuditLog(logger)
    if (audit) stops.add(async () => audit.close())
    const own = ownOf(config, queue, logger, { worker, access, audit, tls })
    const live = await liveOf(config, parts, own)
    const stalls = parts.server ? new Stalls({ queue, afterMs: config.stallAfterMs, logger }) : null
    const server = parts.server && (await serverOf(config, own, { access, audit, handlers, registry, live, stalls }))
    let address: string | null = null
    if (server) {
      stops.add(() => server.close())
      await server.ready()
      await starting?.close()
      if (listens) address = await listen(server, config)
    }
    stalls?.start()
    stops.add(async () => stalls?.stop())
    const outages = await outagesOf(queue, stalls, parts.server, logger, registry)
    stops.add(() => outages.stop())
    if (live) {
      stops.add(() => live.stop())
      await live.start(server && listens ? server.server : null)
    }
    const stopNow = async () => {
      await worker?.stopNow()
      await stops.all()
    }
    const handle = server ? (...call: Parameters<NonNullable<App['handle']>>) => server.routing(...call) : null
    return { address, handle, types: [...handlers.keys()], stop: () => stops.all(), stopNow }
  } catch (error) {
    await stops.all()
    throw error
  }
}

/**
 * A process that only runs a worker, which takes its tasks from a server over HTTP.
 * @throws XQueueError the refusal of the server, such as `unauthorized`; `invalid_handlers`
 */
export async function startRemoteApp(
  server: RemoteServer,
  config: Config,
  logger: Logger,
  handlers?: ReadonlyMap<string, RegisteredHandler>,
  stopping?: AbortSignal,
): Promise<App> {
  giveHandlersTheirSettings(config)
  handlers ??= normalizeHandlers(config.handlers === null ? {} : await loadHandlers(config.handlers), config.handlers)
  warnOfUnusableApi(logger)
  const patience = new Patience(config.storeWaitMs, logger, stopping)
  const worker = await patience.with(() => startRemoteWorker(server, config, handlers, logger))
  patience.over()
  const stops = new Stops(logger)
  stops.add(() => worker.stop())
  const stopNow = async () => {
    await worker.stopNow()
    await stops.all()
  }
  return { address: null, handle: null, types: [...handlers.keys()], stop: () => stops.all(), stopNow }
}

/** Stops the started parts, the last one first. */
class Stops {
  readonly #logger: Logger
  readonly #stops: (() => Promise<unknown>)[] = []

  constructor(logger: Logger) {
    this.#logger = logger
  }

  add(stop: () => Promise<unknown>): void {
    this.#stops.push(stop)
  }

  async all(): Promise<void> {
    for (const stop of this.#stops.splice(0).reverse()) {
      await stop().catch((error: unknown) => this.#logger.error({ err: error }, 'a component did not stop cleanly'))
    }
    await flushSpans().catch((error: unknown) => this.#logger.warn({ err: error }, 'the last spans were not sent'))
  }
}

async function openStore(config: Config, patience: Patience): Promise<Queue> {
  const { leaseMs, retention, events, pendingMax, logLinesMax, payloadKeys, payloadStrict } = config
  // An attempt to open a locked file blocks, so it is short.
  const options = { leaseMs, retention, ...events, pendingMax, logLinesMax, openWaitMs: OPEN_ATTEMPT_MS }
  const store = await patience.with(() => openQueue(config.engine, options))
  if (payloadKeys.length === 0) return keyless(store)
  return encrypted(store, new Encryption(payloadKeys, { strict: payloadStrict }))
}

function workerOf(
  { concurrency, claimAhead, leaseMs, shutdownMs, logLinesMax }: Config,
  queue: Queue,
  handlers: ReadonlyMap<string, RegisteredHandler>,
  logger: Logger,
  registry: Registry,
): Worker {
  const onAttempt = attemptMetrics(registry, handlers.keys())
  const limits = { concurrency, claimAhead, leaseMs, shutdownMs, keepsLogs: logLinesMax > 0 }
  return new Worker({ queue, handlers, logger, ...limits, onAttempt })
}

/** Parts that the server and the status over MQTT share. */
function ownOf(
  config: Config,
  queue: Queue,
  logger: Logger,
  rest: { worker: Worker | null; access: Access | null; audit: AuditLog | null; tls: Certificate | null },
) {
  const { worker, access, audit, tls } = rest
  const isGuarded = access !== null || config.insecure
  const admit = access && {
    access,
    audit: audit!,
    addressOf: clientAddress(config.trustedProxies),
  }
  return {
    // Only workers receive unredacted payloads.
    queue: config.redact.length > 0 ? redacted(queue, redactionOf(config.redact)) : queue,
    servesHost: (name: string | undefined) =>
      isGuarded || isLocalName(name) || name?.replace(/:\d+$/, '') === config.host,
    logger,
    instanceId: worker?.identity.id ?? randomUUID(),
    workerId: worker?.identity.id ?? null,
    admit: admit && admitListeners(admit, config.mqttPrefix),
    newcomers: new Newcomers({ isBounded: access !== null, handshakeMs: PATIENCE.headersMs }),
    tls,
  }
}

type Own = ReturnType<typeof ownOf>

async function serverOf(
  { basePath, corsOrigins, trustedProxies, identity, admission }: Config,
  own: Own,
  rest: Pick<ServerOptions, 'access' | 'audit' | 'handlers' | 'registry' | 'live' | 'stalls'>,
): Promise<FastifyInstance> {
  // Loaded here, because it takes a third of the start of a process, and a worker needs no server.
  const { createServer } = await import('./server/server.ts')
  const provider = identity && { provider: new IdentityProvider(identity), redirectUrl: identity.redirectUrl }
  return createServer({
    ...own,
    ...rest,
    basePath,
    corsOrigins,
    trustedProxies,
    identity: provider,
    admission,
    version,
  })
}

/** Logs and counts outages of the store and stalls; the connection to another MQTT broker logs its own. */
async function outagesOf(
  queue: Queue,
  stalls: Stalls | null,
  isServer: boolean,
  logger: Logger,
  registry: Registry,
): Promise<Outages> {
  const readChecks = async () => [...(await queue.health()).checks, ...(stalls ? [stalls.check()] : [])]
  const names = (await readChecks().catch(() => [])).map(({ name }) => name)
  const outages = new Outages({
    readChecks,
    everyMs: CHECK_MS[isServer ? 'server' : 'worker'],
    logger,
    ...outageMetrics(registry, names),
  })
  outages.start()
  return outages
}

/** The broker is embedded in servers only; every process can publish to an external one. */
async function liveOf(config: Config, { server }: Parts, own: Own): Promise<Live | null> {
  const {
    mqtt,
    mqttPrefix: prefix,
    mqttQos: qos,
    mqttRetain: retain,
    mqttVersion: version,
    mqttClientId: clientId,
  } = config
  if (mqtt === 'off' || (mqtt === 'embedded' && !server)) return null
  const { createLive } = await import('./notify/create-live.ts')
  const { host, mqttPort: port, mqttOrigins: origins, mqttPublicUrl: publicUrl, retention } = config
  const startedAt = performance.now()
  const statsBy = (queue: Queue) => readFigures(queue, own.instanceId, startedAt)
  const stats = () => statsBy(own.queue)
  const limits = () => limitStates(own.queue)
  // Cached, because each counts its tenant's tasks regularly.
  const tenants = new Map<string, Queue>()
  const statsOf = (bounds: Bounds) => {
    const name = boundsText(bounds)
    const queue = tenants.get(name) ?? new BoundedQueue(own.queue, bounds)
    if (tenants.size >= TENANTS_MAX) tenants.clear()
    tenants.set(name, queue)
    return statsBy(queue)
  }
  const where = { host, port, backlog: BACKLOG, origins, publicUrl, retentionMs: retention.ageMs }
  return createLive({ ...own, ...where, mqtt, prefix, qos, version, retain, clientId, stats, statsOf, limits })
}

async function accessOf({ auth, issuer, tokenSecret }: Config, queue: Queue, logger: Logger): Promise<Access | null> {
  if (auth === 'off') return null
  const access = new Access({ queue, keys: auth.includes('keys'), issuer, tokenSecret })
  if (!issuer && !(await access.hasKeys())) {
    logger.warn(
      'there are no keys, so every call is refused: create one with `xqueue keys create admin --scopes admin`',
    )
  }
  return access
}

/** After the handlers, which may have registered an SDK. */
function warnOfUnusableApi(logger: Logger): void {
  const version = unusableApi()
  if (version === null) return
  const remedy = 'install the same version for both (`npm ls @opentelemetry/api` shows the copies)'
  const why = `the OpenTelemetry SDK is registered with @opentelemetry/api ${version}, which XQueue cannot use`
  logger.warn({ registered: version }, `no spans: ${why}: ${remedy}`)
}

/** The included handlers read their settings from the environment, like any handlers. */
function giveHandlersTheirSettings({ smtpUrl, outbox, httpAllowPrivate, httpSecret, httpSecrets }: Config): void {
  const settings = {
    XQUEUE_SMTP_URL: smtpUrl,
    XQUEUE_OUTBOX: outbox,
    XQUEUE_HTTP_ALLOW_PRIVATE: String(httpAllowPrivate),
    XQUEUE_HTTP_SECRET: httpSecret,
    XQUEUE_HTTP_SECRETS: httpSecrets,
  }
  for (const [name, value] of Object.entries(settings)) if (value !== null) process.env[name] = value
}

async function bind(config: Config, tls: Certificate | null, logger: Logger): Promise<Starting> {
  const blocked = whyBlocked(config.port)
  if (blocked) logger.warn(blocked)
  return Starting.listen(config, tls?.pair ?? null).catch((error: NodeJS.ErrnoException) => {
    throw cannotListen(error, config)
  })
}

function listen(server: FastifyInstance, config: Config): Promise<string> {
  return server
    .listen({ host: config.host, port: config.port, backlog: BACKLOG })
    .catch((error: NodeJS.ErrnoException) => {
      throw cannotListen(error, config)
    })
}

function cannotListen(error: NodeJS.ErrnoException, { host, port }: Config): unknown {
  const why: Record<string, string> = {
    EADDRINUSE: `port ${port} is in use: stop the program that uses it, or choose another port with --port`,
    EACCES: `port ${port} is not allowed for this user: choose a port above 1023 with --port`,
    EADDRNOTAVAIL: `${host} is not an address of this machine: choose another address with --host`,
    ENOTFOUND: `${host} is not a known host: choose another host with --host`,
  }
  const detail = why[error.code ?? '']
  return detail ? new XQueueError('invalid_config', `cannot listen on ${host}:${port}: ${detail}`) : error
}
