import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { jarsOf } from './maven.ts'
import { freePort } from './ports.ts'
import { endAtExit, removeAtExit } from './processes.ts'
import { ready } from './redis.ts'

const HERE = join(import.meta.dirname, 'kafka')
const VERSION = '4.2.1'
/** A cluster id is 16 bytes in base64. */
const CLUSTER_ID = 'eHF1ZXVlLXRlc3QtMDAwMQ'
/** Little memory, and no compiler that thinks long: brokers of tests live for seconds. */
const JVM = ['-Xmx256m', '-Xms64m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-Xshare:auto']

export interface Broker {
  id: number
  port: number
  kill(): Promise<void>
  start(): Promise<void>
  signal(signal: NodeJS.Signals): void
}

/** A user whom the brokers let in, over TLS only. */
export interface Login {
  user: string
  password: string
}

export interface RunningKafka {
  /** `host:port,…` of all brokers, as a URL and other programs name them. */
  address: string
  brokers: Broker[]
  /** PEM file of who signed the certificate of the brokers, which they have with a login. */
  authority: string
  /** Ends all as a crash does. */
  kill(): Promise<void>
  /** Starts them again with what they have on the disk. */
  start(): Promise<void>
  stop(): Promise<void>
}

/**
 * Real brokers of Apache Kafka on the loopback address, each its own controller too (KRaft). Topics are not made by
 * themselves; topics of the brokers' own have as many replicas as there are brokers.
 *
 * @param more further lines of the configuration of each
 * @param login with it, clients speak TLS and SASL, PLAIN or SCRAM-SHA-512
 */
export async function startKafka({
  brokers: count = 1,
  more = [],
  login,
}: {
  brokers?: number
  more?: string[]
  login?: Login
} = {}): Promise<RunningKafka> {
  const jars = kafkaJars()
  const ports = await Promise.all(Array.from({ length: count * 2 }, () => freePort()))
  const voters = ports.slice(count).map((port, index) => `${index + 1}@127.0.0.1:${port}`)
  const secrets = removeAtExit(mkdtempSync(join(tmpdir(), 'xqueue-kafka-secrets-')))
  const authority = join(secrets, 'cert.pem')
  const secured = login ? securedBy(login, secrets) : []
  const brokers = Array.from({ length: count }, (_, index) => {
    const [port, controller] = [ports[index]!, ports[count + index]!]
    const protocol = login ? 'SASL_SSL' : 'PLAINTEXT'
    const lines = [...secured, ...more]
    return makeBroker(jars, { id: index + 1, port, controller, voters, protocol, login, more: lines })
  })
  const all = (act: (broker: Broker) => Promise<void>) => Promise.all(brokers.map(act)).then(() => undefined)
  const kill = () => all((broker) => broker.kill())
  const start = () => all((broker) => broker.start())
  const stop = async () => {
    await kill()
    for (const folder of [secrets, ...brokers.map((broker) => broker.folder)]) {
      rmSync(folder, { recursive: true, force: true })
    }
  }
  try {
    await start()
  } catch (error) {
    await stop()
    throw error
  }
  const address = brokers.map(({ port }) => `127.0.0.1:${port}`).join(',')
  return { address, brokers, authority, kill, start, stop }
}

interface BrokerPlan {
  id: number
  port: number
  controller: number
  voters: string[]
  protocol: 'PLAINTEXT' | 'SASL_SSL'
  login: Login | undefined
  more: string[]
}

function makeBroker(jars: string, plan: BrokerPlan): Broker & { folder: string } {
  const { id, port, login } = plan
  const folder = removeAtExit(mkdtempSync(join(tmpdir(), `xqueue-kafka-${id}-`)))
  const settings = join(folder, 'server.properties')
  writeFileSync(settings, `${settingsOf(plan, join(folder, 'data')).join('\n')}\n`)
  const java = ['-cp', `${jars}/*${delimiter}${HERE}`, `-Dlog4j2.configurationFile=${join(HERE, 'log4j2.properties')}`]
  const users = login ? ['--add-scram', `SCRAM-SHA-512=[name=${login.user},password=${login.password}]`] : []
  const format = ['kafka.tools.StorageTool', 'format', '-t', CLUSTER_ID, '-c', settings, ...users]
  execFileSync('java', [...JVM, ...java, ...format], { stdio: ['ignore', 'ignore', 'inherit'] })
  let server: ChildProcess | undefined
  const start = async () => {
    const args = [...JVM, ...java, 'kafka.Kafka', settings]
    server = endAtExit(spawn('java', args, { stdio: ['ignore', 'pipe', 'inherit'] }))
    await ready(server, 'Kafka Server started')
  }
  const kill = async () => {
    if (!server || server.exitCode !== null || server.signalCode !== null) return
    server.kill('SIGKILL')
    await once(server, 'exit')
  }
  return { id, port, folder, kill, start, signal: (name) => void server?.kill(name) }
}

function settingsOf({ id, port, controller, voters, protocol, more }: BrokerPlan, data: string): string[] {
  const replicas = voters.length
  return [
    'process.roles=broker,controller',
    `node.id=${id}`,
    `listeners=${protocol}://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controller}`,
    `advertised.listeners=${protocol}://127.0.0.1:${port}`,
    'controller.listener.names=CONTROLLER',
    `controller.quorum.voters=${voters.join(',')}`,
    `log.dirs=${data}`,
    'auto.create.topics.enable=false',
    `default.replication.factor=${replicas}`,
    `offsets.topic.replication.factor=${replicas}`,
    'offsets.topic.num.partitions=4',
    `transaction.state.log.replication.factor=${replicas}`,
    'transaction.state.log.num.partitions=2',
    `share.coordinator.state.topic.replication.factor=${replicas}`,
    // Groups of tests do not wait for members that will not come.
    'group.initial.rebalance.delay.ms=0',
    // One that was killed may come back as soon as this; shorter, and one on a busy machine is taken for dead.
    'broker.session.timeout.ms=5000',
    'broker.heartbeat.interval.ms=500',
    'log.index.size.max.bytes=262144',
    'log.cleaner.dedupe.buffer.size=4194304',
    'num.network.threads=2',
    'num.io.threads=4',
    ...more,
  ]
}

/** Makes a certificate, and says how brokers use it and whom they let in. */
function securedBy({ user, password }: Login, folder: string): string[] {
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1']
  const files = ['-keyout', join(folder, 'key.pem'), '-out', join(folder, 'cert.pem')]
  execFileSync('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', ...subject, ...files], {
    stdio: 'ignore',
  })
  const both = ['key.pem', 'cert.pem'].map((name) => readFileSync(join(folder, name), 'utf8'))
  writeFileSync(join(folder, 'both.pem'), both.join(''), { mode: 0o600 })
  const module = (name: string) => `org.apache.kafka.common.security.${name}LoginModule required`
  const users = `username="broker" password="secret" user_broker="secret" user_${user}="${password}"`
  return [
    'listener.security.protocol.map=CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL',
    'security.inter.broker.protocol=SASL_SSL',
    'sasl.mechanism.inter.broker.protocol=PLAIN',
    'sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512',
    `listener.name.sasl_ssl.plain.sasl.jaas.config=${module('plain.Plain')} ${users};`,
    `listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=${module('scram.Scram')};`,
    'ssl.keystore.type=PEM',
    `ssl.keystore.location=${join(folder, 'both.pem')}`,
    'ssl.truststore.type=PEM',
    `ssl.truststore.location=${join(folder, 'cert.pem')}`,
  ]
}

/** The folder with the jars: fetched once, into the cache of the user, and not into the project. */
export function kafkaJars(): string {
  return jarsOf(join(HERE, 'pom.xml'), `kafka-${VERSION}`)
}
