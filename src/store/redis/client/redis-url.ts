import { XQueueError } from '../../../task/errors.ts'
import type { Names } from '../records/keys.ts'

export interface Node {
  host: string
  port: number
  /** True for a sentinel: no user, password or database. */
  plain?: boolean
}

/** The parsed form of a Redis URL: the location of the tasks, and the options of the connection. */
export interface RedisUrl extends Names {
  kind: 'single' | 'cluster' | 'sentinel'
  nodes: Node[]
  tls: boolean
  /**
   * PEM files, if the certificates of Redis are not signed by a known authority, or if it requires a client
   * certificate.
   */
  files: { ca?: string; cert?: string; key?: string }
  username?: string
  password?: string
  /** Name of the master in the configuration of the sentinels. */
  master: string
  /** Number of hash slots over which types are spread: 1 for a single node. */
  partitions: number
  /** How long a call waits while Redis is unavailable, and for its answer. */
  waitMs: number
}

const SCHEMES = {
  'redis:': ['single', false],
  'rediss:': ['single', true],
  'redis+cluster:': ['cluster', false],
  'rediss+cluster:': ['cluster', true],
  'redis+sentinel:': ['sentinel', false],
  'rediss+sentinel:': ['sentinel', true],
} as const
export const CLUSTER_PARTITIONS = 64
const DATABASES = 16_384
const WAIT_MS = { least: 100, default: 5_000, most: 60_000 }
const PARAMETERS = ['prefix', 'wait_ms', 'partitions', 'ca', 'cert', 'key']
const IN_PASSWORDS = 'in a password write @ : / ? # and % percent-encoded'
const HELP =
  'write redis[s]://[user:password@]host[:port][/database], redis+cluster://host:port,host:port or ' +
  'redis+sentinel://host:port,host:port/master[/database], each with ?prefix=name if two queues share a Redis, ' +
  'wait_ms=5000, for a cluster partitions=1 if types share named limits, and with TLS ca=, cert= and key= (PEM files)'

/**
 * Reads a Redis URL: `redis://`, `redis+cluster://` and `redis+sentinel://`, each with `rediss` for TLS.
 * @throws XQueueError `engine_unusable` that lists the allowed forms
 */
export function parseRedisUrl(url: string): RedisUrl {
  const parts = /^([a-z+]+:)\/\/(?:([^@/]*)@)?([^/?]*)(\/[^?]*)?(?:\?(.*))?$/.exec(url)
  const [, scheme = '', login, hosts = '', path = '', query = ''] = parts ?? []
  const known = SCHEMES[scheme as keyof typeof SCHEMES]
  if (!known) throw refused('it has no valid form')
  const [kind, tls] = known
  const nodes = (hosts || '127.0.0.1').split(',').map((host) => nodeOf(host, kind === 'sentinel' ? 26_379 : 6_379))
  if (kind === 'single' && nodes.length > 1)
    throw refused('several hosts require redis+cluster:// or redis+sentinel://')
  const [username, password] = login === undefined ? [] : login.split(/:(.*)/s).map(decodeURIComponent)
  const steps = path.split('/').filter((step) => step !== '')
  const master = kind === 'sentinel' ? (steps.shift() ?? '') : ''
  if (kind === 'sentinel' && master === '') throw refused('the name of the master is missing')
  const database = Number(steps.shift() ?? 0)
  if (!Number.isInteger(database) || database < 0 || database > DATABASES || steps.length > 0) {
    throw refused(`the text after the host must be a database number; ${IN_PASSWORDS}`)
  }
  if (kind === 'cluster' && database !== 0) throw refused('a cluster has only database 0')
  const search = new URLSearchParams(query)
  const stranger = [...search.keys()].find((key) => !PARAMETERS.includes(key))
  if (stranger) throw refused(unknownParameter(stranger))
  const prefix = search.get('prefix') ?? 'xq'
  if (!/^[A-Za-z0-9._-]{1,50}$/.test(prefix)) throw refused(`the prefix may contain only letters, digits and . _ -`)
  const waitMs = Number(search.get('wait_ms') ?? WAIT_MS.default)
  if (!(waitMs >= WAIT_MS.least && waitMs <= WAIT_MS.most)) {
    throw refused(`wait_ms must be from ${WAIT_MS.least} to ${WAIT_MS.most}`)
  }
  return {
    kind,
    tls,
    nodes,
    files: Object.fromEntries([...search].filter(([name]) => ['ca', 'cert', 'key'].includes(name))),
    waitMs,
    master,
    database,
    prefix,
    partitions: partitionsOf(kind, search.get('partitions')),
    ...(username ? { username } : {}),
    ...(password ? { password } : {}),
  }
}

function nodeOf(text: string, defaultPort: number): { host: string; port: number } {
  const [, bracketed, plain, port] = /^(?:\[([^\]]+)\]|([^:@]+))(?::(\d+))?$/.exec(text) ?? []
  const host = bracketed ?? plain
  const number = port === undefined ? defaultPort : Number(port)
  if (!host || number < 1 || number > 65_535) throw refused(`a host must have the form host:port; ${IN_PASSWORDS}`)
  return { host, port: number }
}

function partitionsOf(kind: RedisUrl['kind'], text: string | null): number {
  if (kind !== 'cluster' && text !== null) throw refused('only redis+cluster:// has partitions')
  if (text !== null && !/^([1-9]|[1-5]\d|6[0-4])$/.test(text)) {
    throw refused(`partitions must be from 1 to ${CLUSTER_PARTITIONS}`)
  }
  return kind === 'cluster' ? Number(text ?? CLUSTER_PARTITIONS) : 1
}

/** The number of partitions was fixed when the queue was first opened. */
export function otherCount(prefix: string, recorded: number, asked: number): XQueueError {
  const detail = `the queue with the prefix ${prefix} has ${recorded} partitions, and the Redis URL asks for ${asked}`
  return new XQueueError('engine_unusable', `${detail}: write partitions=${recorded}, or choose another prefix`)
}

/** A text that is no name may be a part of a password. */
function unknownParameter(name: string): string {
  return /^\w{1,20}$/.test(name) ? `unknown parameter ${name}` : `unknown parameter; ${IN_PASSWORDS}`
}

/** The URL itself is not shown: it may contain a password. */
function refused(why: string): XQueueError {
  return new XQueueError('engine_unusable', `the Redis URL cannot be used: ${why}; ${HELP}`)
}
