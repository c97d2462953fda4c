import { parseDurationMs } from '../task/duration.ts'

/** How a value is read from text. Each kind has a message that says which values it allows. */
type Kind =
  | { kind: 'text'; like?: { pattern: RegExp; says: string } }
  | { kind: 'integer'; min: number; max: number }
  | { kind: 'choice'; of: readonly string[] }
  | { kind: 'duration'; minMs: number }
  | { kind: 'bytes'; min: number }
  | { kind: 'flag' }

export interface Setting {
  /** `--name` as a flag, `XQUEUE_NAME` in the environment, `name` in the configuration file. */
  name: string
  /** Other environment variables for it; the first that is set applies. */
  aliases: readonly string[]
  type: Kind
  /** A secret, or a URL with a password: its value is never shown. */
  secret: boolean
  /** Default as text; null: not set. */
  default: string | null
  doc: string
}

const MQTT_URL = /^(embedded|off|(mqtts?|wss?|tcp|ssl):\/\/[^\s/]\S*)$/
const BROKER_URL = /^(mqtts?|wss?):\/\/[^\s@/]\S*$/
const HTTPS_URL = /^(https:\/\/|http:\/\/(localhost|127\.0\.0\.1|\[::1\])[:/])\S+$/
const CALLBACK_URL = /^https?:\/\/\S+\/login\/callback$/
const ROLES = /^[^\s,=]+=[a-z]+(\+[a-z]+)*([,\s]+[^\s,=]+=[a-z]+(\+[a-z]+)*)*$/
const HTTP_SECRETS = /^https?:\/\/[^\s/=]+=\S+(\s+https?:\/\/[^\s/=]+=\S+)*$/
const BASE_PATH = /^(\/[\w.~-]+)+$/
const ORIGINS = /^https?:\/\/[^\s/,]+([,\s]+https?:\/\/[^\s/,]+)*$/
const NETWORK = String.raw`(loopback|linklocal|uniquelocal|[\da-fA-F.:]+(/\d{1,3})?)`
const NETWORKS = new RegExp(`^${NETWORK}([,\\s]+${NETWORK})*$`)
const SECRET_CHARS_MIN = 32
const MQTT_PREFIX = /^[\w.-]+(\/[\w.-]+)*$/

/** Settings whose values are never shown, not even in errors. */
const SECRETS = [
  'engine',
  'mqtt',
  'token-secret',
  'oidc-client-secret',
  'payload-keys',
  'smtp-url',
  'http-secret',
  'http-secrets',
]

/** All settings, one row each. */
export const SETTINGS = [
  row(
    'engine',
    { kind: 'text' },
    'sqlite:./xqueue.db',
    'Store of the tasks: sqlite:./file.db, redis://host:port or kafka://broker:port?state=redis://host:port',
  ),
  row('host', { kind: 'text' }, '127.0.0.1', 'Address on which the HTTP server listens'),
  row('port', { kind: 'integer', min: 0, max: 65_535 }, '8080', 'Port of the HTTP server; 0 selects a free port', [
    'SERVER_PORT',
  ]),
  row(
    'base-path',
    { kind: 'text', like: { pattern: BASE_PATH, says: 'must be a path such as /queue, without a slash at the end' } },
    null,
    'Path below which a proxy serves this server, such as /queue',
  ),
  row(
    'auth',
    { kind: 'choice', of: ['off', 'keys', 'jwt', 'keys+jwt'] },
    'off',
    'Access control: see docs/security.md',
  ),
  row('insecure', { kind: 'flag' }, 'false', 'Allows other machines to reach a server without access control'),
  row(
    'jwt-jwks',
    { kind: 'text', like: { pattern: HTTPS_URL, says: 'must be an https URL' } },
    null,
    "URL of the public keys of the tokens' issuer (JWKS)",
  ),
  row('jwt-issuer', { kind: 'text' }, null, 'Issuer that tokens must have'),
  row('jwt-audience', { kind: 'text' }, null, 'Audience that tokens must have'),
  row('jwt-scope-claim', { kind: 'text' }, 'scope', 'Claim with the scopes: submit, view, read, work, admin'),
  row(
    'oidc-issuer',
    { kind: 'text', like: { pattern: HTTPS_URL, says: 'must be an https URL' } },
    null,
    'Identity provider (OpenID Connect) for the login to the dashboard',
  ),
  row('oidc-client-id', { kind: 'text' }, null, 'Client id of XQueue at the provider'),
  row(
    'oidc-client-secret',
    { kind: 'text' },
    null,
    'Client secret at the provider; without one, XQueue is a public client (PKCE)',
  ),
  row(
    'oidc-redirect-url',
    { kind: 'text', like: { pattern: CALLBACK_URL, says: 'must be a URL that ends with /login/callback' } },
    null,
    'URL to which the provider redirects browsers (default: the requested host with /login/callback)',
  ),
  row(
    'oidc-scopes',
    { kind: 'text' },
    'profile',
    'Scopes to request from the provider beside openid, separated by spaces',
  ),
  row('oidc-roles-claim', { kind: 'text' }, 'roles', 'Claim with the roles, such as realm_access.roles'),
  row(
    'oidc-roles',
    {
      kind: 'text',
      like: { pattern: ROLES, says: 'must be roles with scopes, such as ops=admin,support=read+submit' },
    },
    null,
    'Scopes of each role: ops=admin,support=read+submit; a role with the name of a scope needs no entry',
  ),
  row(
    'token-secret',
    {
      kind: 'text',
      like: {
        pattern: new RegExp(`^.{${SECRET_CHARS_MIN},}$`),
        says: `must have at least ${SECRET_CHARS_MIN} characters`,
      },
    },
    null,
    'Secret that signs subscription tokens, for an external broker that checks them (default: random)',
  ),
  row('tls-cert', { kind: 'text' }, null, 'PEM file with the certificate of the HTTP server and the embedded broker'),
  row('tls-key', { kind: 'text' }, null, 'PEM file with the private key of --tls-cert'),
  row(
    'cors-origins',
    { kind: 'text', like: { pattern: ORIGINS, says: 'must be comma-separated origins, such as https://app.example' } },
    null,
    'Other sites whose pages may call the API, comma-separated',
  ),
  row(
    'trusted-proxies',
    {
      kind: 'text',
      like: { pattern: NETWORKS, says: 'must be comma-separated addresses or networks, such as 10.0.0.0/8' },
    },
    null,
    'Proxies whose X-Forwarded-For is trusted, comma-separated: addresses, networks, loopback',
  ),
  row('payload-keys', { kind: 'text' }, null, 'Keys that encrypt payloads and results: see docs/security.md'),
  row('payload-strict', { kind: 'flag' }, 'false', 'Accepts only encrypted payloads and results; needs --payload-keys'),
  row('redact', { kind: 'text' }, null, 'Paths that only workers can see, comma-separated: payload.password,result.*'),
  row(
    'mqtt',
    {
      kind: 'text',
      like: { pattern: MQTT_URL, says: 'must be embedded, off, or a URL such as mqtt://user:password@host' },
    },
    'embedded',
    'Status over MQTT: embedded (a broker in `serve`), off, or the URL of a broker (mqtt, mqtts, ws or wss)',
    ['MQTT_BROKER'],
  ),
  row(
    'mqtt-port',
    { kind: 'integer', min: 0, max: 65_535 },
    '1883',
    'Port of the embedded broker; 0 selects a free port',
  ),
  row(
    'mqtt-origins',
    { kind: 'text' },
    null,
    'Sites whose pages may connect to the embedded broker, comma-separated; * for all',
  ),
  row(
    'mqtt-public-url',
    {
      kind: 'text',
      like: { pattern: BROKER_URL, says: 'must be a URL such as wss://host/mqtt, without user and password' },
    },
    null,
    'URL for subscribers (default: this server, or the broker of --mqtt)',
  ),
  row(
    'mqtt-prefix',
    {
      kind: 'text',
      like: { pattern: MQTT_PREFIX, says: 'must be words of letters, digits and . _ -, separated by slashes' },
    },
    'xqueue',
    'Prefix of every topic',
  ),
  row('mqtt-qos', { kind: 'integer', min: 0, max: 2 }, '1', 'Quality of service of published messages'),
  row(
    'mqtt-version',
    { kind: 'choice', of: ['auto', '5', '3.1.1'] },
    'auto',
    'MQTT version for an external broker; auto tries 5, then 3.1.1',
  ),
  row('mqtt-retain', { kind: 'flag' }, 'true', 'Whether an external broker retains the statuses of tasks and workers'),
  row('mqtt-client-id', { kind: 'text' }, null, 'Client id at an external broker (default: one per process)'),
  row('concurrency', { kind: 'integer', min: 1, max: 10_000 }, '10', 'Tasks that run at once in this process'),
  row(
    'claim-ahead',
    { kind: 'integer', min: 0, max: 1_000 },
    '128',
    'Tasks claimed ahead while handlers end within 5 ms; 0 disables this',
  ),
  row('handlers', { kind: 'text' }, null, 'TypeScript or JavaScript file that exports the handlers'),
  row('lease', { kind: 'duration', minMs: 1_000 }, '30s', 'Time after which the tasks of a lost worker run again'),
  row('shutdown', { kind: 'duration', minMs: 0 }, '30s', 'Time for running tasks to finish at shutdown'),
  row('retention-age', { kind: 'duration', minMs: 0 }, '24h', 'Time for which finished tasks are stored'),
  row('retention-count', { kind: 'integer', min: 0, max: 1e9 }, '100000', 'Maximum number of stored finished tasks'),
  row(
    'events-age',
    { kind: 'duration', minMs: 1_000 },
    '24h',
    'Time for which events are stored for readers that resume',
  ),
  row('events-count', { kind: 'integer', min: 1_000, max: 1e9 }, '100000', 'Maximum number of stored events'),
  row('events-bytes', { kind: 'bytes', min: 1024 * 1024 }, '64MB', 'Maximum number of bytes of stored events'),
  row(
    'log-lines',
    { kind: 'integer', min: 0, max: 10_000 },
    '1000',
    'Maximum number of lines of ctx.log kept with each task; 0 keeps none',
  ),
  row(
    'max-pending',
    { kind: 'integer', min: 1, max: 1e9 },
    null,
    'Maximum number of waiting tasks; further submissions get 429',
  ),
  row(
    'overload-wait',
    { kind: 'duration', minMs: 10 },
    '1s',
    'Expected time to the answer above which submissions and reads over HTTP get 503',
  ),
  row(
    'overload-calls',
    { kind: 'integer', min: 100, max: 1_000_000 },
    '10000',
    'Maximum number of unanswered submissions and reads over HTTP; further ones get 503',
  ),
  row(
    'overload-bytes',
    { kind: 'bytes', min: 1024 * 1024 },
    '256MB',
    'Maximum number of bytes of the bodies of these calls',
  ),
  row(
    'stall-after',
    { kind: 'duration', minMs: 0 },
    '30s',
    'Time after which /health reports ready tasks that no free worker starts; 0 disables this',
  ),
  row(
    'store-wait',
    { kind: 'duration', minMs: 0 },
    null,
    'Time to wait at the start for a store that is unavailable or locked (default: no limit)',
  ),
  row(
    'log-level',
    { kind: 'choice', of: ['fatal', 'error', 'warn', 'info', 'debug', 'trace'] },
    'info',
    'Lowest level of log lines',
    ['LOG_LEVEL'],
  ),
  row(
    'log-format',
    { kind: 'choice', of: ['auto', 'pretty', 'json'] },
    'auto',
    'Format of the log; auto: pretty on a terminal, otherwise json',
  ),
  row('smtp-url', { kind: 'text' }, null, 'SMTP server of the email handler: smtp://user:password@host:port'),
  row('outbox', { kind: 'text' }, './outbox', 'Folder for messages of the email handler without an SMTP server'),
  row(
    'http-allow-private',
    { kind: 'flag' },
    'false',
    'Allows the http handler to call private and loopback addresses',
  ),
  row('http-secret', { kind: 'text' }, null, 'Secret with which the http handler signs its requests'),
  row(
    'http-secrets',
    {
      kind: 'text',
      like: { pattern: HTTP_SECRETS, says: 'must be origins with secrets, such as https://a.example=SECRET' },
    },
    null,
    'Secrets of single destinations, separated by spaces: https://a.example=SECRET',
  ),
] as const satisfies readonly Setting[]

export type SettingName = (typeof SETTINGS)[number]['name']

/** Reads one value. @throws Error with the allowed values */
export function readValue({ type }: Setting, text: string): string | number | boolean {
  switch (type.kind) {
    case 'text':
      if (text === '') throw new Error('must not be empty')
      if (type.like && !type.like.pattern.test(text)) throw new Error(type.like.says)
      return text
    case 'integer': {
      const value = Number(text)
      if (!/^\d+$/.test(text) || value < type.min || value > type.max) {
        throw new Error(`must be an integer from ${type.min} to ${type.max}`)
      }
      return value
    }
    case 'choice':
      if (!type.of.includes(text)) throw new Error(`must be one of ${type.of.join(', ')}`)
      return text
    case 'duration': {
      const ms = parseDurationMs(text)
      if (ms < type.minMs) throw new Error(`must be at least ${type.minMs / 1_000} s`)
      return ms
    }
    case 'bytes': {
      const bytes = bytesOf(text)
      if (bytes === null) throw new Error('must be a number of bytes, such as 67108864, 512KB, 64MB or 1GB')
      if (bytes < type.min) throw new Error(`must be at least ${type.min} bytes`)
      return bytes
    }
    case 'flag':
      if (text !== 'true' && text !== 'false') throw new Error('must be true or false')
      return text === 'true'
  }
}

const BYTES_OF: Readonly<Record<string, number>> = { '': 1, K: 1024, M: 1024 ** 2, G: 1024 ** 3 }

function bytesOf(text: string): number | null {
  const [, digits, unit = ''] = /^(\d{1,12})(?:([KMG])i?B)?$/i.exec(text) ?? []
  return digits === undefined ? null : Number(digits) * BYTES_OF[unit.toUpperCase()]!
}

function row<Name extends string>(
  name: Name,
  type: Kind,
  fallback: string | null,
  doc: string,
  aliases: readonly string[] = [],
): Setting & { name: Name } {
  return { name, type, default: fallback, doc, aliases, secret: SECRETS.includes(name) }
}
