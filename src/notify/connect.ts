import mqtt, { type IClientOptions, type MqttClient } from 'mqtt'
import type { Qos } from './packets.ts'
import { propertiesOf } from './properties.ts'
import { type Topics, WORKER_STATES } from './topics.ts'

const CONNECT_MS_MAX = 10_000
const KEEPALIVE_S = 15

export interface LinkOptions {
  url: string
  clientId: string
  qos: Qos
  retain: boolean
  retentionMs: number
  /** The worker whose `offline` the broker tells if this connection is lost. */
  workerId: string | null
  topics: Topics
}

/** An MQTT.js client that connects once and never again. */
export function connect(options: LinkOptions, version: 4 | 5): MqttClient {
  const { url, clientId } = options
  const { href, login } = withoutLogin(url)
  return mqtt.connect(href, {
    ...login,
    clientId,
    protocolVersion: version,
    reconnectPeriod: 0,
    reconnectOnConnackError: false,
    connectTimeout: CONNECT_MS_MAX,
    keepalive: KEEPALIVE_S,
    // Neither a timer nor a line of a log for each message.
    reschedulePings: false,
    log: () => undefined,
    wsOptions: { perMessageDeflate: false },
    ...willOf(options, version),
  })
}

/** What the broker is to tell if the connection is lost. */
function willOf(
  { qos, retain, retentionMs, workerId, topics }: LinkOptions,
  version: 4 | 5,
): Pick<IClientOptions, 'will'> {
  if (workerId === null) return {}
  const gone = topics.ofWorker(workerId, WORKER_STATES.gone)
  const properties = version === 5 ? { properties: propertiesOf(gone, retentionMs) } : {}
  const payload = Buffer.from(gone.payload())
  // A broker that knows no QoS 2 would refuse the connection for it.
  return { will: { topic: gone.topic, payload, qos: Math.min(qos, 1) as Qos, retain, ...properties } }
}

/** MQTT.js would take a user name to go on until the last colon, also of the password. */
function withoutLogin(url: string): { href: string; login: { username?: string; password?: string } } {
  const place = new URL(url)
  const username = decodeURIComponent(place.username)
  const password = decodeURIComponent(place.password)
  place.username = ''
  place.password = ''
  return { href: place.href, login: username === '' ? {} : { username, password } }
}
