import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import mqtt from 'mqtt'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import { pathOf } from '../fixtures/installed.ts'
import { jarsOf } from '../fixtures/maven.ts'
import { Listener, MANY_MS } from '../fixtures/mqtt-listener.ts'
import { root } from '../fixtures/root.ts'
import { type Server, startServer } from '../fixtures/server.ts'

const HERE = join(import.meta.dirname, 'paho')

/** MQTT 5 with the embedded broker, and clients that other people wrote. */
let process_: Server
let url: string
const closing: (() => unknown)[] = []

beforeAll(async () => {
  process_ = await startServer({ mqtt: 'embedded' })
  url = await process_.mqttUrl()
})
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

async function listen(version: 4 | 5, filters: string[], options: object = {}, at = url): Promise<Listener> {
  const listener = await Listener.connect(at, filters, { protocolVersion: version, ...options })
  closing.push(() => listener.close())
  return listener
}

describe('MQTT 5', () => {
  it.each(['TCP', 'WebSocket'])('sends states and changes in order, over %s', async (over) => {
    const before = await process_.submit('quick', { before: true })
    const at = over === 'TCP' ? url : process_.webSocketUrl
    const listener = await listen(5, ['xqueue/#'], {}, at)
    const id = await process_.submit('quick', { a: 1 })
    await listener.until(() => {
      expect(listener.statuses(`xqueue/tasks/${id}`)).toEqual(['pending', 'processing', 'success'])
      expect(listener.on(`xqueue/tasks/${before}`)[0]).toMatchObject({ packet: { retain: true, qos: 1 } })
    })
  })

  it('announces unsupported features, assigns a client id, and sends states only if the subscription requests them', async () => {
    const id = await process_.submit('quick')
    const client = mqtt.connect(url, { protocolVersion: 5, clientId: '', clean: true, reconnectPeriod: 0 })
    closing.push(() => client.endAsync(true))
    const [connack] = (await once(client as never, 'connect')) as [{ properties: object }]
    expect(connack.properties).toMatchObject({
      sharedSubscriptionAvailable: false,
      subscriptionIdentifiersAvailable: false,
      assignedClientIdentifier: expect.stringMatching(/^xqueue-/),
    })
    const received: string[] = []
    client.on('message', (topic) => received.push(topic))
    await client.subscribeAsync(`xqueue/tasks/${id}`, { qos: 1, rh: 2 })
    const other = await process_.submit('quick')
    await client.subscribeAsync(`xqueue/tasks/${other}`, { qos: 2 })
    await expect.poll(() => received, { timeout: MANY_MS }).toContain(`xqueue/tasks/${other}`)
    expect(received).not.toContain(`xqueue/tasks/${id}`)
    await client.unsubscribeAsync([`xqueue/tasks/${id}`, `xqueue/tasks/${other}`])
  })

  it('refuses other filters with a reason code, and sends no packet above the maximum of the client', async () => {
    const listener = await listen(5, [], { properties: { maximumPacketSize: 1_000 } })
    const refused = listener.client.subscribeAsync('other/#')
    await expect(refused).rejects.toMatchObject({ packet: { granted: [0x87] } })
    await listener.client.subscribeAsync('xqueue/events/#', { qos: 1 })
    await process_.submit('quick', 'x'.repeat(2_000))
    const small = await process_.submit('quick', 's')
    await listener.until(() => expect(listener.on(`xqueue/events/quick/success/${small}`)).toHaveLength(1))
    expect(listener.messages.every(({ packet }) => packet.payload.length < 1_000)).toBe(true)
  })
})

describe('a publish by a client', () => {
  it.each([4, 5] as const)('is acknowledged, dropped and logged once, with version %s', async (version) => {
    const listener = await listen(version, ['xqueue/#'])
    const publisher = await listen(version, [], { reconnectPeriod: 0 })
    let closes = 0
    publisher.client.on('close', () => {
      closes += 1
    })
    const reported = () => process_.log.filter((line) => line.includes('an MQTT client publishes')).length
    const before = reported()
    for (const qos of [0, 1, 2] as const) {
      const published = publisher.client.publishAsync('xqueue/tasks/1', 'not even JSON', { qos, retain: false })
      if (version === 5 && qos > 0) await expect(published).rejects.toThrow('Not authorized')
      else await published
    }
    const id = await process_.submit('quick')
    await listener.until(() => expect(listener.statuses(`xqueue/tasks/${id}`).at(-1)).toBe('success'))
    expect(listener.messages.some(({ body }) => body === 'not even JSON')).toBe(false)
    expect([closes, reported() - before]).toEqual([0, 1])
  })
})

describe('other MQTT clients', () => {
  it.each(['mqttv311', 'mqttv5'])('mosquitto_sub receives with %s', async (version) => {
    const id = await process_.submit('quick', { n: 42 })
    const { hostname, port } = new URL(url)
    const topic = `xqueue/tasks/${id}`
    const args = ['-V', version, '-h', hostname, '-p', port, '-q', '2', '-t', topic, '-C', '1', '-W', '20']
    expect(JSON.parse(await outputOf(pathOf('mosquitto_sub')!, args))).toMatchObject({ task_id: id, result: { n: 42 } })
  })

  it.each([4, 5])('paho-mqtt of Python receives with version %s', async (version) => {
    const id = await process_.submit('quick', { n: 43 })
    const script = join(HERE, 'client.py')
    const received = await outputOf(python(), [script, new URL(url).port, String(version), `xqueue/tasks/${id}`])
    expect(JSON.parse(received)).toMatchObject({ task_id: id, result: { n: 43 } })
  })

  it.each([4, 5])('Paho for Java receives with version %s', { timeout: 300_000 }, async (version) => {
    const id = await process_.submit('quick', { n: 44 })
    const jars = `${jarsOf(join(HERE, 'pom.xml'), 'paho-java-1.2.5')}/*`
    const program = join(HERE, 'PahoClient.java')
    const args = ['-cp', jars, program, new URL(url).port, String(version), `xqueue/tasks/${id}`]
    expect(JSON.parse(await outputOf('java', args))).toMatchObject({ task_id: id, result: { n: 44 } })
  })
})

async function outputOf(program: string, args: string[]): Promise<string> {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  child.stdout.on('data', (chunk) => {
    output += chunk
  })
  expect((await once(child, 'close'))[0]).toBe(0)
  return output
}

const cache = join(root, '.cache')

/** A Python with paho-mqtt, made once. */
function python(): string {
  const folder = join(cache, 'paho-mqtt-2.1.0')
  const program = join(folder, 'bin/python')
  if (existsSync(join(folder, 'ready'))) return program
  execFileSync('python3', ['-m', 'venv', folder])
  execFileSync(join(folder, 'bin/pip'), ['install', '--quiet', 'paho-mqtt==2.1.0'])
  execFileSync('touch', [join(folder, 'ready')])
  return program
}
