import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { isScope, SCOPES, type Scope } from '../task/api-key.ts'
import { XQueueError } from '../task/errors.ts'
import { nearest } from '../task/nearest.ts'
import { FILE_SUFFIX, readSecret } from './secret-file.ts'
import { readValue, SETTINGS, type Setting, type SettingName } from './settings.ts'

/** Durations are milliseconds. */
export interface Config {
  engine: string
  host: string
  port: number
  /** Empty, or a path such as `/queue`. */
  basePath: string
  auth: Auth
  insecure: boolean
  issuer: IssuerConfig | null
  identity: IdentityConfig | null
  tokenSecret: string | null
  /** PEM files. */
  tls: { cert: string; key: string } | null
  corsOrigins: readonly string[]
  trustedProxies: readonly string[]
  redact: readonly string[]
  payloadKeys: readonly string[]
  payloadStrict: boolean
  mqtt: string
  mqttPublicUrl: string | null
  mqttPort: number
  mqttOrigins: readonly string[]
  mqttPrefix: string
  mqttQos: 0 | 1 | 2
  mqttVersion: 'auto' | '5' | '3.1.1'
  mqttRetain: boolean
  mqttClientId: string | null
  concurrency: number
  claimAhead: number
  handlers: string | null
  leaseMs: number
  shutdownMs: number
  retention: { ageMs: number; countMax: number }
  /** Bounds of stored events: the first bound that is reached applies. */
  events: { eventsAgeMs: number; eventsMax: number; eventsBytesMax: number }
  /** Load above which the server refuses calls. */
  admission: { waitMs: number; callsMax: number; bytesMax: number }
  logLinesMax: number
  pendingMax: number | null
  stallAfterMs: number
  storeWaitMs: number | null
  logLevel: string
  logFormat: string
  smtpUrl: string | null
  outbox: string
  httpAllowPrivate: boolean
  httpSecret: string | null
  httpSecrets: string | null
}

/** Access control: off, API keys, tokens of the issuer, or both. */
export type Auth = 'off' | 'keys' | 'jwt' | 'keys+jwt'

export interface IssuerConfig {
  jwksUrl: string
  issuer: string
  audience: string
  scopeClaim: string
}

/** An identity provider for the dashboard. */
export interface IdentityConfig {
  issuer: string
  clientId: string
  clientSecret: string | null
  redirectUrl: string | null
  scopes: string
  rolesClaim: string
  roles: ReadonlyMap<string, readonly Scope[]>
}

/** The source of each value, for `xqueue config`. */
export interface LoadedConfig {
  config: Config
  sources: { name: SettingName; value: string | number | boolean | null; source: string }[]
}

type Values = Readonly<Record<string, string | undefined>>

const FILES = ['xqueue.config.ts', 'xqueue.config.js', 'xqueue.config.json']

/**
 * Flags over environment over `xqueue.config.ts|js|json` over defaults.
 * @throws XQueueError `invalid_config` with key, value, source and allowed values
 */
export async function loadConfig(flags: Values, env: Values, cwd: string): Promise<LoadedConfig> {
  return configOf(flags, env, ...(await readFile(cwd)))
}

/** The same for values that a program passes, by the names of settings; `source` names them in errors. */
export function configOfOptions(values: Values, source: string): Config {
  return configOf({}, {}, source, values).config
}

function configOf(flags: Values, env: Values, file: string, fromFile: Values): LoadedConfig {
  refuseUnknown(Object.keys(fromFile), file)
  refuseUnknownVariables(env)
  const values = new Map<string, string | number | boolean | null>()
  const sources = SETTINGS.map((setting) => {
    const [text, source] = find(setting, flags, env, fromFile, file)
    const value = text === null ? null : read(setting, text, source)
    values.set(setting.name, value)
    return { name: setting.name, value, source }
  })
  const value = <T>(name: SettingName) => values.get(name) as T
  const config: Config = {
    engine: value('engine'),
    host: value('host'),
    port: value('port'),
    basePath: value('base-path') ?? '',
    auth: value('auth'),
    insecure: value('insecure'),
    issuer: issuerOf(value),
    identity: identityOf(value),
    tokenSecret: value('token-secret'),
    tls: tlsOf(value),
    corsOrigins: words(value('cors-origins')),
    trustedProxies: words(value('trusted-proxies')),
    redact: words(value('redact')),
    payloadKeys: words(value('payload-keys')),
    payloadStrict: strictOf(value),
    mqtt: value('mqtt'),
    mqttPublicUrl: value('mqtt-public-url'),
    mqttPort: value('mqtt-port'),
    mqttOrigins: words(value('mqtt-origins')),
    mqttPrefix: value('mqtt-prefix'),
    mqttQos: value('mqtt-qos'),
    mqttVersion: value('mqtt-version'),
    mqttRetain: value('mqtt-retain'),
    mqttClientId: value('mqtt-client-id'),
    concurrency: value('concurrency'),
    claimAhead: value('claim-ahead'),
    handlers: value('handlers'),
    leaseMs: value('lease'),
    shutdownMs: value('shutdown'),
    retention: { ageMs: value('retention-age'), countMax: value('retention-count') },
    events: {
      eventsAgeMs: value('events-age'),
      eventsMax: value('events-count'),
      eventsBytesMax: value('events-bytes'),
    },
    logLinesMax: value('log-lines'),
    pendingMax: value('max-pending'),
    admission: {
      waitMs: value('overload-wait'),
      callsMax: value('overload-calls'),
      bytesMax: value('overload-bytes'),
    },
    stallAfterMs: value('stall-after'),
    storeWaitMs: value('store-wait'),
    logLevel: value('log-level'),
    logFormat: value('log-format'),
    smtpUrl: value('smtp-url'),
    outbox: value('outbox'),
    httpAllowPrivate: value('http-allow-private'),
    httpSecret: value('http-secret'),
    httpSecrets: value('http-secrets'),
  }
  return { config, sources }
}

export function variableOf(name: string): string {
  return `XQUEUE_${name.toUpperCase().replaceAll('-', '_')}`
}

type Value = <T>(name: SettingName) => T

function words(text: string | null): string[] {
  return (text ?? '').split(/[,\s]+/).filter(Boolean)
}

/** Settings that need each other. */
function issuerOf(value: Value): IssuerConfig | null {
  if (!value<Auth>('auth').includes('jwt')) return null
  const names = ['jwt-jwks', 'jwt-issuer', 'jwt-audience'] as const
  const missing = names.find((name) => value(name) === null)
  if (missing) throw new XQueueError('invalid_config', `--auth ${value('auth')} needs --${missing}`)
  const [jwksUrl, issuer, audience] = names.map((name) => value<string>(name)) as [string, string, string]
  return { jwksUrl, issuer, audience, scopeClaim: value('jwt-scope-claim') }
}

function identityOf(value: Value): IdentityConfig | null {
  const [issuer, clientId] = [value<string | null>('oidc-issuer'), value<string | null>('oidc-client-id')]
  if (issuer === null) return null
  if (clientId === null) throw new XQueueError('invalid_config', '--oidc-issuer needs --oidc-client-id')
  if (value<Auth>('auth') === 'off') {
    throw new XQueueError('invalid_config', '--oidc-issuer needs access control: set --auth to keys, jwt or keys+jwt')
  }
  return {
    issuer,
    clientId,
    clientSecret: value('oidc-client-secret'),
    redirectUrl: value('oidc-redirect-url'),
    scopes: value('oidc-scopes'),
    rolesClaim: value('oidc-roles-claim'),
    roles: new Map(words(value('oidc-roles')).map((role) => rolesOf(role))),
  }
}

function rolesOf(text: string): [role: string, scopes: Scope[]] {
  const [role, names] = text.split('=') as [string, string]
  const scopes = names.split('+')
  const unknown = scopes.find((name) => !isScope(name))
  if (unknown === undefined) return [role, scopes as Scope[]]
  throw new XQueueError('invalid_config', `oidc-roles: "${unknown}" is not a scope: use ${SCOPES.join(', ')}`)
}

function strictOf(value: Value): boolean {
  const isStrict = value<boolean>('payload-strict')
  if (!isStrict || value('payload-keys') !== null) return isStrict
  throw new XQueueError('invalid_config', '--payload-strict needs --payload-keys')
}

function tlsOf(value: Value): Config['tls'] {
  const [cert, key] = [value<string | null>('tls-cert'), value<string | null>('tls-key')]
  if (cert !== null && key !== null) return { cert, key }
  if (cert === null && key === null) return null
  throw new XQueueError(
    'invalid_config',
    `--tls-${cert === null ? 'key' : 'cert'} needs --tls-${cert === null ? 'cert' : 'key'}`,
  )
}

function find(
  { name, aliases, default: fallback }: Setting,
  flags: Values,
  env: Values,
  fromFile: Values,
  file: string,
): [text: string | null, source: string] {
  if (flags[name] !== undefined) return [flags[name], `--${name}`]
  const fromSecret = secretFile(name, env)
  if (fromSecret !== null) return fromSecret
  for (const variable of [variableOf(name), ...aliases]) if (env[variable]) return [env[variable], variable]
  if (name === 'engine') {
    // Well-known variables that select an engine if no other setting does.
    const { REDIS_ADDR: redis, KAFKA_BROKERS: kafka } = env
    if (kafka) return [`kafka://${kafka}${redis ? `?state=redis://${redis}` : ''}`, 'KAFKA_BROKERS']
    if (redis) return [`redis://${redis}`, 'REDIS_ADDR']
  }
  if (fromFile[name] !== undefined) return [fromFile[name], file]
  return [fallback, 'default']
}

/**
 * `XQUEUE_NAME_FILE` names a file with the value, such as a secret mounted into a container: neither the environment
 * nor the list of processes shows it. A line break at its end is dropped.
 * @throws XQueueError `invalid_config` if the file cannot be read, or the variable without `_FILE` is set as well
 */
function secretFile(name: string, env: Values): [text: string, source: string] | null {
  const variable = variableOf(name)
  const file = env[`${variable}${FILE_SUFFIX}`]
  if (!file) return null
  if (env[variable]) {
    throw new XQueueError('invalid_config', `${variable} and ${variable}${FILE_SUFFIX} are both set: unset one of them`)
  }
  return [readSecret(`${variable}${FILE_SUFFIX}`, file), `${variable}${FILE_SUFFIX}`]
}

function read(setting: Setting, text: string, source: string): string | number | boolean {
  try {
    return readValue(setting, text)
  } catch (error) {
    const what = setting.secret ? '' : ` is ${JSON.stringify(text)}`
    const { message } = error as Error
    const detail = `${setting.name}${what} (from ${source}): ${error instanceof XQueueError ? '' : 'it '}${message}`
    throw new XQueueError('invalid_config', detail)
  }
}

async function readFile(cwd: string): Promise<[file: string, values: Record<string, string>]> {
  const file = FILES.find((name) => existsSync(resolve(cwd, name)))
  if (!file) return ['', {}]
  const url = pathToFileURL(resolve(cwd, file)).href
  try {
    const module = file.endsWith('.json') ? await import(url, { with: { type: 'json' } }) : await import(url)
    const entries = Object.entries(module.default as object)
    return [file, Object.fromEntries(entries.map(([name, value]) => [name, String(value)]))]
  } catch (error) {
    throw new XQueueError('invalid_config', `${file} cannot be read: ${(error as Error).message}`)
  }
}

function refuseUnknown(names: readonly string[], source: string): void {
  const known: string[] = SETTINGS.map(({ name }) => name)
  const unknown = names.find((name) => !known.includes(name))
  if (unknown === undefined) return
  const near = nearest(unknown, known)
  const remedy = near.length > 0 ? `did you mean ${near.join(' or ')}?` : `use one of ${known.join(', ')}`
  throw new XQueueError('invalid_config', `"${unknown}" in ${source} is not a setting: ${remedy}`)
}

/** XQUEUE_SERVER and XQUEUE_KEY are for clients; every other variable with the prefix must be a setting. */
function refuseUnknownVariables(env: Values): void {
  const own = ['XQUEUE_SERVER', 'XQUEUE_KEY', 'XQUEUE_KEY_FILE']
  const settings = SETTINGS.flatMap(({ name }) => [variableOf(name), `${variableOf(name)}${FILE_SUFFIX}`])
  const known = new Set([...own, ...settings])
  const unknown = Object.keys(env).find((name) => name.startsWith('XQUEUE_') && !known.has(name))
  if (unknown)
    refuseUnknown([unknown.slice('XQUEUE_'.length).toLowerCase().replaceAll('_', '-')], `variable ${unknown}`)
}
