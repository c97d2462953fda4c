import { parseDurationMs } from '../task/duration.ts'

/** How a value is read from text; each says what it allows when it refuses. */
type Kind =
  | { kind: 'text'; like?: { pattern: RegExp; says: string } }
  | { kind: 'integer'; min: number; max: number }
  | { kind: 'choice'; of: readonly string[] }
  | { kind: 'duration'; minMs: number }
  | { kind: 'bytes'; min: number }
  | { kind: 'flag' }

export interface Setting {
  /** Written `--name` as a flag, `XQUEUE_NAME` in the environment, `name` in the configuration file. */
  name: string
  /** Other variables it is read from, the first that is set. */
  aliases: readonly string[]
  type: Kind
  /** Holds a secret, or a URL with a password: its value is never shown. */
  secret: boolean
  /** As it would be written; null: not set. */
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

/** Their values are shown to nobody, also not in an error. */
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

/** Every setting, one row each. */
export const SETTINGS = [
  row(
    'engine',
    { kind: 'text' },
    'sqlite:./xqueue.db',
    'Where tasks are kept: sqlite:./file.db, redis://host:port or kafka://broker:port?state=redis://host:port',
  ),
  row('host', { kind: 'text' }, '127.0.0.1', 'Address the HTTP server listens on'),
  row('port', { kind: 'integer', min: 0, max: 65_535 }, '8080', 'Port of the HTTP server; 0 takes a free one', [
    'SERVER_PORT',
  ]),
  row(
    'base-path',
    { kind: 'text', like: { pattern: BASE_PATH, says: 'must be a path as /queue, without a slash at its end' } },
    null,
    'Path below which a proxy serves this server, as in /queue',
  ),
  row('auth', { kind: 'choice', of: ['off', 'keys', 'jwt', 'keys+jwt'] }, 'off', 'Who may call: see docs/security.md'),
  row('insecure', { kind: 'flag' }, 'false', 'Lets other machines reach a server without access control'),
  row(
    'jwt-jwks',
    { kind: 'text', like: { pattern: HTTPS_URL, says: 'must be an https URL' } },
    null,
    "Where the public keys of the tokens' issuer are (JWKS)",
  ),
  row('jwt-issuer', { kind: 'text' }, null, 'Issuer that tokens must name'),
  row('jwt-audience', { kind: 'text' }, null, 'Audience that tokens must name'),
  row('jwt-scope-claim', { kind: 'text' }, 'scope', 'Claim that holds the scopes: submit, read, work, admin'),
  row(
    'oidc-issuer',
    { kind: 'text', like: { pattern: HTTPS_URL, says: 'must be an https URL' } },
    null,
    'Identity provider (OpenID Connect) that people log in to the dashboard with',
  ),
  row('oidc-client-id', { kind: 'text' }, null, 'Client id that the provider knows XQueue by'),
  row('oidc-client-secret', { kind: 'text' }, null, 'Its secret; without one, XQueue is a public client (PKCE)'),
  row(
    'oidc-redirect-url',
    { kind: 'text', like: { pattern: CALLBACK_URL, says: 'must be a URL that ends with /login/callback' } },
    null,
    'Where the provider sends browsers back; default the host that was asked, with /login/callback',
  ),
  row('oidc-scopes', { kind: 'text' }, 'profile', 'What the provider is asked for beside openid, with spaces between'),
  row('oidc-roles-claim', { kind: 'text' }, 'roles', 'Claim that holds the roles, as in realm_access.roles'),
  row(
    'oidc-roles',
    { kind: 'text', like: { pattern: ROLES, says: 'must be roles with scopes, as in ops=admin,support=read+submit' } },
    null,
    'Scopes of each role: ops=admin,support=read+submit; roles named as scopes need none',
  ),
  row(
    'token-secret',
    {
      kind: 'text',
      like: {
        pattern: new RegExp(`^.{${SECRET_CHARS_MIN},}$`),
        says: `must have ${SECRET_CHARS_MIN} characters or more`,
      },
    },
    null,
    'What subscription tokens are signed with, where a broker elsewhere checks them; default one of their own',
  ),
  row('tls-cert', { kind: 'text' }, null, 'PEM file with the certificate of the HTTP server and the embedded broker'),
  row('tls-key', { kind: 'text' }, null, 'PEM file with its private key'),
  row(
    'cors-origins',
    { kind: 'text', like: { pattern: ORIGINS, says: 'must be origins with commas, as in https://app.example' } },
    null,
    'Other sites whose pages may call the API, with commas',
  ),
  row(
    'trusted-proxies',
    { kind: 'text', like: { pattern: NETWORKS, says: 'must be addresses or networks with commas, as in 10.0.0.0/8' } },
    null,
    'Proxies whose X-Forwarded-For names the client, with commas: addresses, networks, loopback',
  ),
  row(
    'payload-keys',
    { kind: 'text' },
    null,
    'Keys that payloads and results are encrypted with: see docs/security.md',
  ),
  row('payload-strict', { kind: 'flag' }, 'false', 'Accepts encrypted payloads and results only; needs --payload-keys'),
  row('redact', { kind: 'text' }, null, 'Paths that only workers are to see, with commas: payload.password,result.*'),
  row(
    'mqtt',
    { kind: 'text', like: { pattern: MQTT_URL, says: 'must be embedded, off, or a URL as mqtt://user:password@host' } },
    'embedded',
    'Status over MQTT: embedded (a broker in `serve`), off, or the URL of a broker: mqtt, mqtts, ws or wss',
    ['MQTT_BROKER'],
  ),
  row('mqtt-port', { kind: 'integer', min: 0, max: 65_535 }, '1883', 'Port of the embedded broker; 0 takes a free one'),
  row(
    'mqtt-origins',
    { kind: 'text' },
    null,
    'Sites whose pages may read from the embedded broker, with commas; * all',
  ),
  row(
    'mqtt-public-url',
    { kind: 'text', like: { pattern: BROKER_URL, says: 'must be a URL as wss://host/mqtt, without user or password' } },
    null,
    'Where subscribers are told to connect; default this server, or the broker of --mqtt',
  ),
  row(
    'mqtt-prefix',
    {
      kind: 'text',
      like: { pattern: MQTT_PREFIX, says: 'must be words of letters, digits and . _ - between slashes' },
    },
    'xqueue',
    'What every topic starts with',
  ),
  row('mqtt-qos', { kind: 'integer', min: 0, max: 2 }, '1', 'Quality of service of what is published'),
  row(
    'mqtt-version',
    { kind: 'choice', of: ['auto', '5', '3.1.1'] },
    'auto',
    'Version that an external broker is spoken to in; auto: 5, and 3.1.1 where that is refused',
  ),
  row('mqtt-retain', { kind: 'flag' }, 'true', 'Whether an external broker retains the states of tasks and workers'),
  row('mqtt-client-id', { kind: 'text' }, null, 'Client id at an external broker; default one of its own a process'),
  row('concurrency', { kind: 'integer', min: 1, max: 10_000 }, '10', 'Tasks at once in this process'),
  row(
    'claim-ahead',
    { kind: 'integer', min: 0, max: 1_000 },
    '128',
    'Tasks held beside those that run, while handlers end within 5 ms; 0 for none',
  ),
  row('handlers', { kind: 'text' }, null, 'TypeScript or JavaScript file that exports the handlers'),
  row('lease', { kind: 'duration', minMs: 1_000 }, '30s', 'How long a lost worker keeps its tasks'),
  row('shutdown', { kind: 'duration', minMs: 0 }, '30s', 'How long running tasks may take at shutdown'),
  row('retention-age', { kind: 'duration', minMs: 0 }, '24h', 'How long finished tasks are kept'),
  row('retention-count', { kind: 'integer', min: 0, max: 1e9 }, '100000', 'How many finished tasks are kept'),
  row('events-age', { kind: 'duration', minMs: 1_000 }, '24h', 'How long events are kept for readers that resume'),
  row('events-count', { kind: 'integer', min: 1_000, max: 1e9 }, '100000', 'How many events are kept at most'),
  row('events-bytes', { kind: 'bytes', min: 1024 * 1024 }, '64MB', 'How many bytes of events are kept at most'),
  row('max-pending', { kind: 'integer', min: 1, max: 1e9 }, null, 'Waiting tasks above which submissions get 429'),
  row(
    'store-wait',
    { kind: 'duration', minMs: 0 },
    null,
    'How long a start waits for a store that is away or locked; default for ever',
  ),
  row(
    'log-level',
    { kind: 'choice', of: ['fatal', 'error', 'warn', 'info', 'debug', 'trace'] },
    'info',
    'Least level',
    ['LOG_LEVEL'],
  ),
  row('log-format', { kind: 'choice', of: ['auto', 'pretty', 'json'] }, 'auto', 'auto: pretty on a terminal'),
  row('smtp-url', { kind: 'text' }, null, 'SMTP server of the email handler, smtp://user:password@host:port'),
  row('outbox', { kind: 'text' }, './outbox', 'Where the email handler writes messages without an SMTP server'),
  row('http-allow-private', { kind: 'flag' }, 'false', 'Lets the http handler call private and loopback addresses'),
  row('http-secret', { kind: 'text' }, null, 'Secret that the http handler signs its requests with'),
  row(
    'http-secrets',
    {
      kind: 'text',
      like: { pattern: HTTP_SECRETS, says: 'must be origins with secrets, as in https://a.example=SECRET' },
    },
    null,
    'Secrets of single destinations, with spaces between: https://a.example=SECRET',
  ),
] as const satisfies readonly Setting[]

export type SettingName = (typeof SETTINGS)[number]['name']

/** Reads one value. @throws Error saying what is allowed */
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
      if (bytes === null) throw new Error('must be bytes, as in 67108864, 512KB, 64MB or 1GB')
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
