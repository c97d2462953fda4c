import { execFileSync, spawn } from 'node:child_process'
import { type EventEmitter, once } from 'node:events'
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import mqtt from 'mqtt'
import { expect, it, vi } from 'vitest'
import { parse } from 'yaml'
import { temporaryFolder } from '../fixtures/folder.ts'
import { pathOf } from '../fixtures/installed.ts'
import { freePort } from '../fixtures/ports.ts'
import { endAtExit } from '../fixtures/processes.ts'

const file = join(import.meta.dirname, '../../deploy/compose/redis.yaml')
const folder = temporaryFolder()

interface Compose {
  services: { server: { environment: { XQUEUE_MQTT: string } }; mosquitto: { entrypoint: string[]; command: string[] } }
  configs: { mosquitto: { content: string }; 'mosquitto-acl': { content: string } }
}

/**
 * In its container the broker starts as root and becomes `mosquitto`; without root, this test's user is both.
 */
const IS_ROOT = process.getuid?.() === 0

/** Replaces `$$` and `${NAME:?message}` as Compose does; the value of each variable is its name in lower case. */
const interpolated = (text: string) =>
  text.replace(/\$\{(\w+):\?[^}]*\}/g, (_, name: string) => name.toLowerCase()).replaceAll('$$', '$')

it('starts the broker of the compose file; XQueue may publish, and readers may only read', async () => {
  const { services, configs } = parse(readFileSync(file, 'utf8'), { merge: true }) as Compose
  const port = await freePort()
  const here = (text: string) => text.replaceAll('/mosquitto/', `${folder}/`)
  for (const name of ['data', 'config']) mkdirSync(join(folder, name))
  chmodSync(folder, 0o755)
  if (IS_ROOT) execFileSync('chown', ['mosquitto', join(folder, 'data')])
  const config = here(configs.mosquitto.content).replace(/^listener 1883$/m, `listener ${port} 127.0.0.1`)
  expect(config).toContain(`listener ${port}`)
  writeFileSync(join(folder, 'config/mosquitto.conf'), config)
  writeFileSync(join(folder, 'config/acl'), interpolated(configs['mosquitto-acl'].content))

  const url = new URL(interpolated(services.server.environment.XQUEUE_MQTT))
  const [shell, ...flags] = services.mosquitto.entrypoint
  const asWritten = here(services.mosquitto.command.map(interpolated).join('\n'))
  const script = IS_ROOT ? asWritten : asWritten.replaceAll(' -o mosquitto -g mosquitto', '')
  const PATH = `${join(pathOf('mosquitto')!, '..')}:${process.env.PATH}`
  const env = { ...process.env, PATH, PASSWORD: url.password, READER_PASSWORD: 'reads' }
  const broker = endAtExit(spawn(shell!, [...flags, script], { env, stdio: 'ignore' }))
  const connect = (login: object) =>
    mqtt.connectAsync(`mqtt://127.0.0.1:${port}`, { ...login, reconnectPeriod: 0 }, false)
  const client = await vi.waitFor(() => connect({ username: url.username, password: url.password }), 20_000)
  await client.subscribeAsync('xqueue/#', { qos: 1 })
  const received = once(client as unknown as EventEmitter, 'message')
  await client.publishAsync('xqueue/tasks/1', '{}', { qos: 1, retain: true })
  expect((await received)[0]).toBe('xqueue/tasks/1')
  const reader = await connect({ username: 'reader', password: 'reads', protocolVersion: 5 })
  expect(await reader.subscribeAsync('xqueue/#', { qos: 1 })).toMatchObject([{ qos: 1 }])
  await expect(reader.publishAsync('xqueue/tasks/1', 'forged', { qos: 1 })).rejects.toThrow(/not authorized/i)
  for (const one of [client, reader]) await one.endAsync()
  await expect(connect({})).rejects.toThrow(/not authori[sz]ed/i)
  broker.kill('SIGTERM')
  await once(broker, 'exit')
})
