import { readFileSync } from 'node:fs'
import { parseDurationMs } from '../../../task/duration.ts'
import { XQueueError } from '../../../task/errors.ts'

/** The parsed form of a Kafka URL: the location of the log, and the options of the connection. */
export interface KafkaUrl {
  /** `host:port` of the first brokers; they report the others. */
  brokers: string[]
  /** The URL of the store that holds the live state. */
  state: string
  /** The prefix of all topics, and of the name of the group. */
  prefix: string
  partitions: number
  /** Copies of each topic; null: the default of the brokers. */
  replication: number | null
  /** Retention of outcomes and status events in their topics. */
  retentionMs: number
  /** Whether status events are written to a topic. */
  events: boolean
  tls?: { ca?: string; cert?: string; key?: string }
  sasl?: { mechanism: 'PLAIN' | 'SCRAM-SHA-256' | 'SCRAM-SHA-512'; username: string; password: string }
  /** How long a call waits while Kafka is unavailable. */
  waitMs: number
}

const PORT = 9_092
const LIMITS = { partitions: 1_000, replication: 10, waitMs: [100, 60_000] } as const
const MECHANISMS = { plain: 'PLAIN', 'scram-sha-256': 'SCRAM-SHA-256', 'scram-sha-512': 'SCRAM-SHA-512' } as const
const DEFAULTS = { partitions: '3', retention: '7d', wait_ms: '5000', prefix: 'xq', events: 'on', tls: 'off' }
const PARAMETERS = [...Object.keys(DEFAULTS), 'replication', 'sasl', 'ca', 'cert', 'key']
const IN_PASSWORDS = 'in a password write @ : / ? # and % percent-encoded'
const HELP =
  'write kafka://[user:password@]broker:9092,broker:9092?state=redis://host, before state= also prefix=name if two ' +
  'queues share the brokers, partitions=3, replication=3, retention=7d, events=off, wait_ms=5000, tls=on with ca=, ' +
  'cert= and key= (PEM files), and sasl=plain, scram-sha-256 or scram-sha-512'

/**
 * Reads a Kafka URL. `state=` comes last: the rest of the text is the URL of the state, plain or percent-encoded.
 * @throws XQueueError `engine_unusable` that lists the allowed forms
 */
export function parseKafkaUrl(url: string): KafkaUrl {
  const at = url.search(/[?&]state=/)
  if (at < 0) throw refused('state= is missing: it must name the Redis that holds leases, timers and task data')
  const given = url.slice(at + '?state='.length)
  const state = given.includes('://') ? given : decode(given)
  const parts = /^kafka:\/\/(?:([^@/]*)@)?([^/?]*)\/?(?:\?(.*))?$/.exec(url.slice(0, at))
  if (!parts) throw refused('it has no valid form')
  const [, login, hosts = '', query = ''] = parts
  const search = new URLSearchParams(query)
  const stranger = [...search.keys()].find((key) => !PARAMETERS.includes(key))
  if (stranger)
    throw refused(/^\w{1,20}$/.test(stranger) ? `unknown parameter ${stranger}` : `unknown parameter; ${IN_PASSWORDS}`)
  const value = (name: keyof typeof DEFAULTS) => search.get(name) ?? DEFAULTS[name]
  const prefix = value('prefix')
  if (!/^[A-Za-z0-9-]{1,40}$/.test(prefix)) throw refused('the prefix may contain only letters, digits and -')
  const replication = search.get('replication')
  return {
    brokers: (hosts || '127.0.0.1').split(',').map(brokerOf),
    state,
    prefix,
    partitions: integer('partitions', value('partitions'), 1, LIMITS.partitions),
    replication: replication === null ? null : integer('replication', replication, 1, LIMITS.replication),
    retentionMs: retention(value('retention')),
    events: choice('events', value('events')),
    waitMs: integer('wait_ms', value('wait_ms'), ...LIMITS.waitMs),
    ...tlsOf(search, choice('tls', value('tls'))),
    ...saslOf(search.get('sasl'), login),
  }
}

function tlsOf(search: URLSearchParams, wanted: boolean): Pick<KafkaUrl, 'tls'> {
  const files = ['ca', 'cert', 'key'].filter((name) => search.has(name))
  if (!wanted && files.length === 0) return {}
  const read = (name: string) => {
    try {
      return readFileSync(search.get(name)!, 'utf8')
    } catch (error) {
      throw refused(`${name} is not a readable file (${(error as Error).message})`)
    }
  }
  return { tls: Object.fromEntries(files.map((name) => [name, read(name)])) }
}

function saslOf(named: string | null, login: string | undefined): Pick<KafkaUrl, 'sasl'> {
  if (named === null && login === undefined) return {}
  const mechanism = MECHANISMS[(named ?? 'plain') as keyof typeof MECHANISMS]
  if (!mechanism) throw refused('sasl must be plain, scram-sha-256 or scram-sha-512')
  const [username = '', password = ''] = (login ?? '').split(/:(.*)/s).map(decode)
  if (username === '' || password === '') throw refused('sasl requires user:password@ before the brokers')
  return { sasl: { mechanism, username, password } }
}

function brokerOf(text: string): string {
  const [, bracketed, plain, port = String(PORT)] = /^(?:\[([^\]]+)\]|([^:@]+))(?::(\d+))?$/.exec(text) ?? []
  const host = bracketed ?? plain
  if (!host || Number(port) < 1 || Number(port) > 65_535)
    throw refused(`a broker must have the form host:port; ${IN_PASSWORDS}`)
  return `${host}:${port}`
}

function integer(name: string, text: string, least: number, most: number): number {
  const value = Number(text)
  if (!(Number.isInteger(value) && value >= least && value <= most)) {
    throw refused(`${name} must be a whole number from ${least} to ${most}`)
  }
  return value
}

function retention(text: string): number {
  try {
    return parseDurationMs(text)
  } catch (error) {
    throw refused(`retention: ${(error as Error).message}`)
  }
}

function choice(name: string, text: string): boolean {
  if (text !== 'on' && text !== 'off') throw refused(`${name} must be on or off`)
  return text === 'on'
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw refused('a % must be followed by two hexadecimal digits')
  }
}

/** The URL itself is not shown: it may contain a password. */
function refused(why: string): XQueueError {
  return new XQueueError('engine_unusable', `the Kafka URL cannot be used: ${why}; ${HELP}`)
}
