import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { statfs } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { dirname } from 'node:path'
import { Command } from 'commander'
import { refuseExposure } from '../access/exposure.ts'
import { call } from '../client/call.ts'
import { type Config, loadConfig } from '../config/config.ts'
import { whyBlocked } from '../server/blocked-ports.ts'
import { EXIT, print, withExamples } from './output.ts'
import { settingsOf, withSettings } from './serve.ts'

interface Finding {
  check: string
  ok: boolean
  detail: string
}

const ANSWER_MS_MAX = 2_000
const MQTT_PORTS: Readonly<Record<string, number>> = {
  'mqtt:': 1883,
  'tcp:': 1883,
  'mqtts:': 8883,
  'ssl:': 8883,
  'ws:': 80,
  'wss:': 443,
}
const DISK_FREE_BYTES_MIN = 1024 ** 3

/** `xqueue doctor`: checks everything that `xqueue serve` needs with the same settings. */
export function doctorCommand(): Command {
  const command = withSettings(new Command('doctor'))
    .description('check whether `serve` would work with these settings; exits with 1 if not')
    .option('--json', 'print JSON')
    .action(async ({ json, ...flags }: { json?: boolean }) => {
      const findings = await examine(settingsOf(flags))
      const lines = findings.map(({ check, ok, detail }) => `${ok ? '✓' : '✗'} ${check}: ${detail}`)
      print(json ? JSON.stringify(findings) : lines.join('\n'))
      if (findings.some(({ ok }) => !ok)) process.exitCode = EXIT.failed
    })
  return withExamples(command, 'xqueue doctor', 'xqueue doctor --engine sqlite:/var/lib/xqueue/x.db --port 9000')
}

async function examine(flags: Record<string, string>): Promise<Finding[]> {
  const node: Finding = { check: 'node', ok: true, detail: process.version } // `xqueue.ts` has refused older ones.
  let loadedConfig: Config | undefined
  const settings = await find('settings', async () => {
    const loaded = await loadConfig(flags, process.env, process.cwd())
    loadedConfig = loaded.config
    const set = loaded.sources.filter(({ source }) => source !== 'default')
    return set.length === 0 ? 'all defaults' : set.map(({ name, source }) => `${name} from ${source}`).join(', ')
  })
  if (!loadedConfig) return [node, settings]
  const config = loadedConfig
  const { engine, handlers, host, port, auth, insecure } = config
  return [
    node,
    settings,
    await find('engine', () => useEngine(engine)),
    await find('data', () => checkData(engine)),
    await find('disk', () => findRoom(engine)),
    await find('handlers', async () => {
      if (handlers === null) return 'none: this process can serve but not run tasks; set --handlers to run tasks'
      // Loaded here, so that commands that only call a server start fast.
      const { loadHandlers, normalizeHandlers } = await import('../worker/handlers.ts')
      return [...normalizeHandlers(await loadHandlers(handlers), handlers).keys()].join(', ')
    }),
    await find('access', async () => {
      await refuseExposure(host, auth !== 'off', insecure)
      return auth === 'off' ? 'off: any caller that can reach this server has full access' : auth
    }),
    await find('port', () => listen(host, port)),
    await find('mqtt', () => reachMqtt(config)),
  ]
}

async function find(check: string, look: () => Promise<string>): Promise<Finding> {
  try {
    return { check, ok: true, detail: await look() }
  } catch (error) {
    return { check, ok: false, detail: (error as Error).message }
  }
}

async function useEngine(url: string): Promise<string> {
  const { fileToCreate } = await import('../store/sqlite/database/file-check.ts')
  const path = url.startsWith('sqlite:') ? fileToCreate(url) : null
  // Opening it would create it, with the user that runs this command as its owner.
  if (path !== null) return `${path} does not exist: the first process creates it`
  const { openQueue } = await import('../queue/open.ts')
  const engine = await openQueue(url)
  try {
    const { durability, checks } = await engine.health()
    const bad = checks.find(({ ok }) => !ok)
    if (bad) throw new Error(`${bad.name}: ${bad.detail}`)
    return `${withoutLogins(url)}: an accepted task ${durability}`
  } finally {
    await engine.close()
  }
}

/** Redis and Kafka check their files themselves when they start. */
async function checkData(url: string): Promise<string> {
  if (!url.startsWith('sqlite:')) return 'checked by the engine itself'
  const { checkFile } = await import('../store/sqlite/database/file-check.ts')
  return checkFile(url)
}

/** Removes logins. A URL can contain that of another engine, each with its own login. */
function withoutLogins(url: string): string {
  return url.replaceAll(/:\/\/[^@/?&]*@/g, '://')
}

async function findRoom(engine: string): Promise<string> {
  const file = engine.replace(/^sqlite:/, '').split('?')[0]!
  const folder = dirname(file)
  if (!existsSync(folder)) return 'not used: the engine does not store data on this disk'
  const { bavail, bsize } = await statfs(folder)
  const free = bavail * bsize
  const text = `${(free / 1024 ** 3).toFixed(1)} GiB free in ${folder}`
  if (free < DISK_FREE_BYTES_MIN) throw new Error(`${text}: free disk space, or move the database`)
  return text
}

async function listen(host: string, port: number): Promise<string> {
  const server = createServer()
  const failure = await new Promise<NodeJS.ErrnoException | null>((resolve) => {
    server.once('error', resolve)
    server.listen(port, host, () => resolve(null))
  })
  server.close()
  const blocked = whyBlocked(port)
  if (failure === null) return `${host}:${port} is free${blocked ? `, but ${blocked}` : ''}`
  const taken = failure.code === 'EADDRINUSE'
  if (taken && (await isXQueue(`http://${host}:${port}`))) return `an XQueue server already runs at ${host}:${port}`
  const remedy = taken ? 'stop the program that uses the port, or choose another port with --port' : failure.message
  throw new Error(`${host}:${port} cannot be used: ${remedy}`)
}

/** The embedded broker works without its port, so only an external broker that does not answer is an error. */
async function reachMqtt({ mqtt, mqttPort, host }: Config): Promise<string> {
  if (mqtt === 'off') return 'off: status over /api/v1/events only'
  if (mqtt === 'embedded') {
    const free = await listen(host, mqttPort).then(
      () => true,
      () => false,
    )
    return free ? `embedded: ${host}:${mqttPort} is free` : `embedded: WebSocket only, ${host}:${mqttPort} is in use`
  }
  const { hostname, port, protocol } = new URL(mqtt)
  const where = `${hostname}:${port || MQTT_PORTS[protocol]}`
  const socket = connect({ host: hostname, port: Number(port || MQTT_PORTS[protocol]), timeout: ANSWER_MS_MAX })
  try {
    await Promise.race([
      once(socket, 'connect'),
      once(socket, 'timeout').then(() => Promise.reject(new Error('no answer'))),
    ])
    return `${where} accepts connections`
  } catch (error) {
    throw new Error(`the broker at ${where} cannot be reached (${(error as Error).message}): check --mqtt`)
  } finally {
    socket.destroy()
  }
}

async function isXQueue(server: string): Promise<boolean> {
  const signal = AbortSignal.timeout(ANSWER_MS_MAX)
  return call({ url: server, key: null }, 'GET', '/live', undefined, { signal }).then(
    () => true,
    () => false,
  )
}
