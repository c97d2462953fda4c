import { randomUUID } from 'node:crypto'
import type { Server } from 'node:http'
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
import type { Engine } from './engine/engine.ts'
import { openEngine } from './engine/open.ts'
import { Outages } from './engine/outages.ts'
import { Patience } from './engine/patience.ts'
import { Seal } from './engine/seal.ts'
import { SealingEngine } from './engine/sealing.ts'
import { Sweeper } from './engine/sweeper.ts'
import { ViewedEngine } from './engine/viewed.ts'
import { createLive } from './notify/create-live.ts'
import type { Live, LiveOptions } from './notify/live.ts'
import { PATIENCE } from './server/connections.ts'
import { attemptMetrics, outageMetrics } from './server/metrics.ts'
import { createServer } from './server/server.ts'
import { Starting } from './server/starting.ts'
import { readStats } from './server/system.ts'
import { typeJson } from './server/type-json.ts'
import { type Bounds, boundsText } from './task/bounds.ts'
import { XQueueError } from './task/errors.ts'
import { redactionOf } from './task/redaction.ts'
import { BoundedEngine } from './tenants/bounded.ts'
import { flushSpans, unusableApi } from './trace/spans.ts'
import { version } from './version.ts'
import { announce, loadHandlers, normalizeHandlers, type RegisteredHandler } from './worker/handlers.ts'
import { Worker } from './worker/worker.ts'

const TENANTS_MAX = 1_000

const OPEN_ATTEMPT_MS = 100

/** Which parts a process runs. */
export interface Parts {
  server: boolean
  worker: boolean
}

export interface App {
  /** Where the server listens; null without one. */
  address: string | null
  /** Stops accepting, lets running tasks finish for the time of the setting, closes the engine. */
  stop(): Promise<void>
  /** The same at once: running tasks go back to the queue. */
  stopNow(): Promise<void>
}

/**
 * Puts a process together: engine → sweeper → worker → server → status over MQTT. It stops in the reverse order. What
 * fails at the start takes down what was started before it.
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
  if (parts.server) await refuseExposure(config.host, config.auth !== 'off', config.insecure)
  const redact = redactionOf(config.redact)
  const tls = parts.server && config.tls ? new Certificate(config.tls, logger) : null
  const addressOf = clientAddress(config.trustedProxies)
  const seal = config.payloadKeys.length > 0 ? new Seal(config.payloadKeys, { strict: config.payloadStrict }) : null
  giveHandlersTheirSettings(config)
  handlers ??= normalizeHandlers(config.handlers === null ? {} : await loadHandlers(config.handlers), config.handlers)
  warnOfUnusableApi(logger)
  const { leaseMs, retention, events, pendingMax } = config
  const patience = new Patience(config.storeWaitMs, logger, stopping)
  // An attempt to open a locked file blocks, so it is short.
  const options = { leaseMs, retention, ...events, pendingMax, openWaitMs: OPEN_ATTEMPT_MS }
  let starting: Promise<Starting | null> | undefined
  // On a free port nobody can ask yet; a port that is in use is reported when the server listens.
  const answerMeanwhile = () => {
    if (parts.server && config.port !== 0) starting ??= Starting.listen(config, tls?.pair ?? null).catch(() => null)
  }
  const open = () =>
    openEngine(config.engine, options).catch((error: unknown) => {
      answerMeanwhile()
      throw error
    })
  const store = await patience.with(open).catch(async (error: unknown) => {
    await (await starting)?.close()
    throw error
  })
  const engine = seal ? new SealingEngine(store, seal) : store
  const endStarting = async () => {
    await (await starting)?.close()
    starting = undefined
  }
  const stops: (() => Promise<unknown>)[] = [async () => tls?.close(), () => engine.close(), endStarting]
  const stopAll = async () => {
    for (const stop of stops.splice(0).reverse()) {
      await stop().catch((error: unknown) => logger.error({ err: error }, 'a part did not stop cleanly'))
    }
    await flushSpans().catch((error: unknown) => logger.warn({ err: error }, 'the last spans were not sent'))
  }
  try {
    const sweeper = new Sweeper(engine, logger)
    sweeper.start()
    stops.push(() => sweeper.stop())
    const registry = new Registry()
    let worker: Worker | undefined
    if (parts.worker) {
      const { concurrency, claimAhead, shutdownMs } = config
      const onAttempt = attemptMetrics(registry, handlers.keys())
      worker = new Worker({ engine, handlers, logger, concurrency, claimAhead, leaseMs, shutdownMs, onAttempt })
      await patience.with(() => worker!.start())
      stops.push(() => worker!.stop())
    } else {
      await patience.with(() => announce(engine, handlers))
    }
    let address: string | null = null
    // Everything that leaves the process but what goes to workers.
    const shown = config.redact.length > 0 ? new ViewedEngine(engine, redact) : engine
    const access = parts.server ? await patience.with(() => accessOf(config, engine, logger)) : null
    patience.over()
    await endStarting()
    const audit = access && new AuditLog(logger)
    if (audit) stops.push(async () => audit.close())
    const instanceId = worker?.identity.id ?? randomUUID()
    const isGuarded = access !== null || config.insecure
    const servesHost = (name: string | undefined) =>
      isGuarded || isLocalName(name) || name?.replace(/:\d+$/, '') === config.host
    const own = { engine: shown, servesHost, logger, instanceId, workerId: worker?.identity.id ?? null }
    const admit = access && admitListeners({ access, audit: audit!, addressOf }, config.mqttPrefix)
    const newcomers = new Newcomers({ handshakeMs: PATIENCE.headersMs })
    const live = liveOf(config, parts, { ...own, admit, newcomers, tls })
    let http: Server | null = null
    if (parts.server) {
      const { corsOrigins, trustedProxies, basePath } = config
      const identity = config.identity && {
        provider: new IdentityProvider(config.identity),
        redirectUrl: config.identity.redirectUrl,
      }
      const rights = { basePath, access, audit, identity, corsOrigins, trustedProxies, tls }
      const server = await createServer({ ...own, ...rights, newcomers, handlers, version, registry, live })
      stops.push(() => server.close())
      address = await server.listen({ host: config.host, port: config.port }).catch((error: NodeJS.ErrnoException) => {
        throw cannotListen(error, config)
      })
      http = server.server
    }
    // The link to another MQTT broker tells of itself.
    const look = async () => (await engine.health()).checks
    const first = await look().catch(() => [])
    const outages = new Outages({
      look,
      logger,
      ...outageMetrics(
        registry,
        first.map(({ name }) => name),
      ),
    })
    outages.start()
    stops.push(() => outages.stop())
    if (live) {
      stops.push(() => live.stop())
      await live.start(http)
    }
    const stopNow = async () => {
      await worker?.stopNow()
      await stopAll()
    }
    return { address, stop: stopAll, stopNow }
  } catch (error) {
    await stopAll()
    throw error
  }
}

type Own = Pick<
  LiveOptions,
  'engine' | 'logger' | 'instanceId' | 'workerId' | 'admit' | 'newcomers' | 'tls' | 'servesHost'
>

/** The broker is embedded in servers only; to an external one every process may publish. */
function liveOf(config: Config, { server }: Parts, own: Own): Live | null {
  const {
    mqtt,
    mqttPrefix: prefix,
    mqttQos: qos,
    mqttRetain: retain,
    mqttVersion: version,
    mqttClientId: clientId,
  } = config
  if (mqtt === 'off' || (mqtt === 'embedded' && !server)) return null
  const { host, mqttPort: port, mqttOrigins: origins, mqttPublicUrl: publicUrl, retention } = config
  const startedAt = Date.now()
  const statsBy = async (engine: Engine) => {
    const types = (await engine.types()).map((info) => ({ ...typeJson(info), payload_schema: undefined }))
    return { ...(await readStats(engine, own.instanceId, startedAt)), types }
  }
  const stats = () => statsBy(own.engine)
  // Kept, because each counts its tenant's tasks now and then.
  const tenants = new Map<string, Engine>()
  const statsOf = (bounds: Bounds) => {
    const name = boundsText(bounds)
    const engine = tenants.get(name) ?? new BoundedEngine(own.engine, bounds)
    if (tenants.size >= TENANTS_MAX) tenants.clear()
    tenants.set(name, engine)
    return statsBy(engine)
  }
  const where = { host, port, origins, publicUrl, retentionMs: retention.ageMs }
  return createLive({ ...own, ...where, mqtt, prefix, qos, version, retain, clientId, stats, statsOf })
}

async function accessOf({ auth, issuer, tokenSecret }: Config, engine: Engine, logger: Logger): Promise<Access | null> {
  if (auth === 'off') return null
  const access = new Access({ engine, keys: auth.includes('keys'), issuer, tokenSecret })
  if (!issuer && !(await access.hasKeys())) {
    logger.warn('there is no key yet, so nobody can call: `xqueue keys create admin --scopes admin` makes one')
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

/** The handlers that come along read their settings from the environment, as anybody's handlers do. */
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

function cannotListen(error: NodeJS.ErrnoException, { host, port }: Config): unknown {
  const why: Record<string, string> = {
    EADDRINUSE: `port ${port} is in use: end the program that has it, or choose another with --port`,
    EACCES: `port ${port} is not allowed for this user: choose one above 1023 with --port`,
    EADDRNOTAVAIL: `${host} is no address of this machine: choose another with --host`,
    ENOTFOUND: `${host} is no known host: choose another with --host`,
  }
  const detail = why[error.code ?? '']
  return detail ? new XQueueError('invalid_config', `cannot listen on ${host}:${port}: ${detail}`) : error
}
