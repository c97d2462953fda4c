import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { Aedes } from 'aedes'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { loadConfig } from '../../src/config/config.ts'
import { createLive } from '../../src/notify/create-live.ts'
import { openQueue } from '../../src/queue/open.ts'
import { completeSpec } from '../../src/task/task.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { Mosquitto } from '../fixtures/mosquitto.ts'
import { Listener, MANY_MS } from '../fixtures/mqtt-listener.ts'
import { main } from '../fixtures/root.ts'
import { type Server, startServer } from '../fixtures/server.ts'
import { liveOptions } from './live-options.ts'

const broker = new Mosquitto()
const folder = temporaryFolder()
let closing: (() => Promise<unknown>)[] = []

beforeEach(() => {
  closing = [() => broker.stop()]
})
afterEach(async () => {
  for (const close of closing.reverse()) await close()
})

async function start(flags: Record<string, string> = {}): Promise<Server> {
  const process = await startServer({ mqtt: broker.url, ...flags })
  closing.push(() => process.stop())
  await vi.waitFor(async () => expect((await process.mqttCheck()).detail).toContain('connected to'), MANY_MS)
  return process
}

async function listen(filters: string[], options = {}, url = broker.url): Promise<Listener> {
  const listener = await Listener.connect(url, filters, options)
  closing.push(() => listener.close())
  return listener
}

const STATES = ['pending', 'processing', 'success']
/** The MQTT 5 properties of the message about a worker that has left: the broker drops it after a day. */
const OFFLINE = { contentType: 'text/plain', messageExpiryInterval: 86_400 }

it('publishes every change with MQTT 5: content type, properties, retained state', async () => {
  await broker.start()
  const process = await start()
  const listener = await listen(['xqueue/#'], { protocolVersion: 5 })
  const id = await process.submit('steps')
  await listener.until(() => expect(listener.statuses(`xqueue/tasks/${id}`)).toEqual(STATES))
  await listener.until(() => expect(listener.on(`xqueue/events/steps/success/${id}`)).toHaveLength(1))
  expect(listener.on(`xqueue/tasks/${id}/progress`)[0]!.body).toMatchObject({ progress: 50 })
  const { packet, body } = listener.on(`xqueue/tasks/${id}`).at(-1)!
  expect(packet.properties).toMatchObject({
    contentType: 'application/json',
    payloadFormatIndicator: true,
    messageExpiryInterval: 86_400,
    userProperties: { task_id: id, task_type: 'steps', task_status: 'success', event_id: body.event_id },
  })
  const late = await listen([`xqueue/tasks/${id}`, 'xqueue/workers/+'])
  await late.until(() => expect(late.messages).toHaveLength(2))
  expect(late.on(`xqueue/tasks/${id}`)).toMatchObject([{ body: { status: 'success' }, packet: { retain: true } }])
  expect(late.messages.find(({ topic }) => topic.startsWith('xqueue/workers/'))!.body).toBe('online')
  await late.until(() => expect(listener.on('xqueue/stats').at(-1)?.body).toMatchObject({ success_tasks: 1 }))
  expect(listener.on('xqueue/stats').at(-1)!.packet).toMatchObject({ qos: 0, retain: false })
  for (const max of [2, 3]) {
    await process.call('PUT', '/limits/gpu', { max })
    await listener.until(() => expect(listener.on('xqueue/limits/gpu').at(-1)?.body).toMatchObject({ max }))
  }
  await process.stop()
  await listener.until(() => expect(listener.messages.at(-1)!.body).toBe('offline'))
  expect(listener.messages.at(-1)!.packet.properties).toMatchObject(OFFLINE)
})

it.each([
  ['TCP', () => broker.url],
  ['WebSocket', () => `ws://127.0.0.1:${broker.webSocketPort}`],
])(
  'delivers everything in order after an outage of the broker, over %s; tasks continue, and health is degraded',
  async (_, url) => {
    await broker.start()
    const process = await start({ mqtt: url() })
    const listener = await listen(['xqueue/tasks/+', 'xqueue/events/+/success/+'])
    const ids: string[] = []
    const submitMany = async () => {
      for (let n = 0; n < 100; n++) ids.push(await process.submit('quick', n))
    }
    const before = submitMany()
    await listener.until(() => expect(listener.messages.length).toBeGreaterThan(20))
    await broker.stop()
    await before
    await vi.waitFor(async () => {
      const check = await process.mqttCheck()
      expect(check).toMatchObject({ status: 200, overall: 'degraded', ok: false })
      expect(check.detail).toMatch(/events wait/)
    }, MANY_MS)
    await submitMany()
    await vi.waitFor(async () => expect((await process.call('GET', '/stats')).body.success_tasks).toBe(200), MANY_MS)
    await broker.startAgain()
    const late = await listen(['xqueue/tasks/+'], { protocolVersion: 5 })
    // The broker has lost the messages from before it was killed; clients of that time have received them.
    const lastOf = (id: string) =>
      [late, listener]
        .map((heard) => heard.statuses(`xqueue/tasks/${id}`).at(-1))
        .find((status) => status === 'success')
    await late.until(() => expect(ids.map(lastOf)).toEqual(ids.map(() => 'success')))
    await vi.waitFor(async () => expect(await process.mqttCheck()).toMatchObject({ overall: 'healthy' }), MANY_MS)
    // A lost connection does not mean that the version is unsupported.
    expect(late.messages.at(-1)!.packet.properties).toMatchObject({ contentType: 'application/json' })
    // A client that was connected all the time may receive some again, and receives nothing out of order.
    await submitMany()
    const last = ids.at(-1)!
    await listener.until(() => expect(listener.on(`xqueue/events/quick/success/${last}`)).not.toHaveLength(0))
    for (const id of ids.slice(200)) expect(listener.statuses(`xqueue/tasks/${id}`)).toEqual(STATES)
  },
)

it('connects only with user and password, reports a refusal, and never shows the password', async () => {
  await broker.start({ login: ['ann', 's:cr@t'] })
  const wrong = await startServer({ mqtt: `mqtt://ann:wr0ng@127.0.0.1:${broker.port}` })
  closing.push(() => wrong.stop())
  await vi.waitFor(async () => {
    expect((await wrong.mqttCheck()).detail).toMatch(/not authorized|bad user/i)
  }, MANY_MS)
  expect(await wrong.mqttCheck()).toMatchObject({ status: 200, overall: 'degraded' })
  expect(wrong.log.join('') + (await wrong.mqttCheck()).detail).not.toContain('wr0ng')
  const right = await start({ mqtt: `mqtt://ann:s%3Acr%40t@127.0.0.1:${broker.port}`, 'mqtt-prefix': 'some/where' })
  const listener = await listen(['some/where/events/#'], { username: 'ann', password: 's:cr@t' })
  const id = await right.submit('quick')
  await listener.until(() => expect(listener.on(`some/where/events/quick/success/${id}`)).toHaveLength(1))
})

it('reports a broker that accepts its connection but no messages, and continues when it accepts them', async () => {
  await broker.start({ more: ['allow_anonymous true', `acl_file ${broker.rules('topic read #')}`] })
  const process = await startServer({ mqtt: broker.url })
  closing.push(() => process.stop())
  const id = await process.submit('quick')
  await vi.waitFor(async () => expect((await process.mqttCheck()).detail).toMatch(/refused a message/), MANY_MS)
  expect(await process.mqttCheck()).toMatchObject({ status: 200, overall: 'degraded' })
  await broker.stop()
  broker.rules('topic readwrite #')
  await broker.startAgain()
  const listener = await listen(['xqueue/tasks/+'])
  await listener.until(() => expect(listener.statuses(`xqueue/tasks/${id}`).at(-1)).toBe('success'))
})

it.each([
  ['over WebSocket', (): object => ({ mqtt: `ws://127.0.0.1:${broker.webSocketPort}` }), []],
  ['with QoS 0', (): object => ({ 'mqtt-qos': '0' }), []],
  ['with QoS 2', (): object => ({ 'mqtt-qos': '2' }), []],
  ['to a broker that takes one message at a time', (): object => ({}), ['max_inflight_messages 1']],
  ['without retained states', (): object => ({ 'mqtt-retain': 'false' }), []],
])('publishes %s', async (name, flags, more) => {
  await broker.start({ more })
  const process = await start(flags() as Record<string, string>)
  const listener = await listen(['xqueue/#'])
  const ids = await Promise.all(Array.from({ length: 50 }, () => process.submit('quick')))
  for (const id of ids) await listener.until(() => expect(listener.statuses(`xqueue/tasks/${id}`)).toEqual(STATES))
  const late = await listen(['xqueue/tasks/+', 'xqueue/events/#'])
  const id = await process.submit('quick')
  await late.until(() => expect(late.on(`xqueue/events/quick/success/${id}`)).toHaveLength(1))
  const retained = late.messages.filter(({ packet }) => packet.retain)
  expect(retained).toHaveLength(name.includes('without') ? 0 : ids.length)
})

it('sends a message that is too large for the broker without its result, and continues', async () => {
  await broker.start({ more: ['max_packet_size 20000'] })
  const process = await start()
  const listener = await listen(['xqueue/events/#'])
  const large = await process.submit('quick', '界'.repeat(10_000))
  const id = await process.submit('quick')
  await listener.until(() => expect(listener.on(`xqueue/events/quick/success/${id}`)).toHaveLength(1))
  expect(listener.on(`xqueue/events/quick/success/${large}`)).toMatchObject([{ body: { result: null } }])
})

it('uses 3.1.1 if the broker supports no other version', async () => {
  const aedes = await Aedes.createBroker()
  const server = createServer(aedes.handle).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const url = `mqtt://127.0.0.1:${(server.address() as AddressInfo).port}`
  closing.push(async () => {
    await new Promise<void>((resolve) => aedes.close(resolve))
    server.close()
  })
  const process = await start({ mqtt: url })
  const listener = await listen(['xqueue/events/#'], {}, url)
  const id = await process.submit('quick')
  await listener.until(() => expect(listener.on(`xqueue/events/quick/success/${id}`)).toHaveLength(1))
})

it.each([
  ['5', 5],
  ['3.1.1', 4],
])('uses only version %s if the setting requires it', async (version, protocol) => {
  const asked: number[] = []
  const other = new Aedes()
  await other.listen()
  other.preConnect = (_client, packet, done) => {
    asked.push((packet as { protocolVersion: number }).protocolVersion)
    done(new Error('try another version'), false)
  }
  const server = createServer(other.handle).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const mqtt = `mqtt://127.0.0.1:${(server.address() as AddressInfo).port}`
  const process = await startServer({ mqtt, 'mqtt-version': version })
  closing.push(async () => {
    await process.stop()
    server.close()
    other.close()
  })
  await vi.waitFor(() => expect(asked.length).toBeGreaterThan(2), MANY_MS)
  expect(new Set(asked)).toEqual(new Set([protocol]))
})

it('publishes all retained states again only to a broker that has lost them', async () => {
  await broker.start()
  const process = await start()
  const ids = await Promise.all(Array.from({ length: 20 }, (_, n) => process.submit('quick', n)))
  const waiting = await process.submit('slow')
  const first = await listen(['xqueue/tasks/#', 'xqueue/retained'])
  await first.until(() => {
    for (const id of ids) expect(first.statuses(`xqueue/tasks/${id}`).at(-1)).toBe('success')
    expect(first.on('xqueue/retained')).toHaveLength(1)
  })
  await broker.stop()
  const whileAway = await process.submit('quick')
  await broker.startAgain()
  await first.until(() => expect(first.on('xqueue/retained').length).toBeGreaterThan(1))
  const late = await listen(['xqueue/tasks/#', 'xqueue/retained'])
  await late.until(() => {
    for (const id of [...ids, whileAway]) expect(late.statuses(`xqueue/tasks/${id}`)).toEqual(['success'])
    expect(late.on(`xqueue/tasks/${waiting}`)).toMatchObject([{ packet: { retain: true } }])
    expect(late.on('xqueue/retained')).toHaveLength(1)
  })
  const reported = () => process.log.filter((line) => line.includes('has no retained states')).length
  const before = reported()
  const again = await startServer({ mqtt: broker.url })
  closing.push(() => again.stop())
  await vi.waitFor(async () => expect((await again.mqttCheck()).ok).toBe(true), MANY_MS)
  const id = await again.submit('quick')
  await first.until(() => expect(first.statuses(`xqueue/tasks/${id}`).at(-1)).toBe('success'))
  expect([reported() - before, again.log.filter((line) => line.includes('has no retained states')).length]).toEqual([
    0, 0,
  ])
})

it('removes the retained state when retention removes the task', async () => {
  await broker.start()
  let now = Date.now()
  const queue = await openQueue('sqlite::memory:', { clock: () => now, retention: { ageMs: 60_000, countMax: 100 } })
  closing.push(() => queue.close())
  await queue.configureType('t', { declared: true })
  const live = await createLive({ ...liveOptions(broker.url), queue })
  await live.start(null)
  closing.push(() => live.stop())
  await vi.waitFor(() => expect(live.check().ok).toBe(true), MANY_MS)
  const listener = await listen(['xqueue/tasks/+'])
  const { task } = (await queue.submit([completeSpec({ type: 't' })]))[0]!
  await queue.cancel({ ids: [task.id] })
  await listener.until(() => expect(listener.statuses(`xqueue/tasks/${task.id}`)).toEqual(['pending', 'canceled']))
  now += 60_001
  await queue.sweep(100)
  await listener.until(() => expect(listener.messages.at(-1)!.body).toBe(''))
  const late = await listen(['xqueue/#'])
  await late.until(() => expect(late.on('xqueue/stats')).not.toHaveLength(0))
  expect(late.on(`xqueue/tasks/${task.id}`)).toEqual([])
})

it('publishes the present states if the events were removed before the broker returned', async () => {
  await broker.start()
  await broker.stop()
  const queue = await openQueue('sqlite::memory:', { eventsMax: 10 })
  closing.push(() => queue.close())
  await queue.configureType('t', { declared: true })
  await queue.events({ after: null, max: 1, reader: { name: 'mqtt', owner: 'x', leaseMs: 1 } })
  const live = await createLive({ ...liveOptions(broker.url), queue })
  await live.start(null)
  closing.push(() => live.stop())
  const tasks = []
  for (let n = 0; n < 30; n++) tasks.push(...(await queue.submit([completeSpec({ type: 't' })])))
  while ((await queue.sweep(100)).more);
  await broker.startAgain()
  const listener = await listen(['xqueue/tasks/+'])
  const topics = tasks.map(({ task }) => `xqueue/tasks/${task.id}`)
  await listener.until(() => expect(topics.map((topic) => listener.statuses(topic).length > 0)).not.toContain(false))
})

it('another process continues when the publishing one is killed; the broker publishes its will', async () => {
  await broker.start()
  const database = join(folder, 'kill.db')
  const handlers = join(import.meta.dirname, '../../handlers/index.ts')
  const flags = ['--engine', `sqlite:${database}`, '--mqtt', broker.url]
  const listener = await listen(['xqueue/#'], { protocolVersion: 5 })
  const child = spawn(process.execPath, [main, 'worker', '--handlers', handlers, ...flags], { stdio: 'ignore' })
  await listener.until(() => expect(listener.messages.some(({ body }) => body === 'online')).toBe(true))
  await listener.until(() => expect(listener.on('xqueue/stats')).not.toHaveLength(0))
  const next = await start({ engine: `sqlite:${database}` })
  expect((await next.mqttCheck()).detail).toContain('another process publishes')
  const first = await next.submit('quick')
  await listener.until(() => expect(listener.statuses(`xqueue/tasks/${first}`)).toEqual(STATES))
  child.kill('SIGKILL')
  await once(child, 'exit')
  const ids = await Promise.all(Array.from({ length: 20 }, () => next.submit('quick')))
  for (const id of ids) await listener.until(() => expect(listener.statuses(`xqueue/tasks/${id}`)).toEqual(STATES))
  const offline = listener.messages.filter(({ body }) => body === 'offline')
  expect(offline).toMatchObject([{ packet: { properties: OFFLINE } }])
})

it('publishes over TLS to a broker whose certificate it trusts, and to no other', async () => {
  await broker.start()
  const run = (trusted: object, ...flags: string[]) => {
    const args = [main, 'serve', '--port', '0', '--engine', 'sqlite::memory:', ...flags]
    const child = spawn(process.execPath, args, {
      env: { ...process.env, ...trusted },
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    const log: string[] = []
    child.stderr.on('data', (chunk) => log.push(String(chunk)))
    closing.push(async () => {
      child.kill('SIGKILL')
      await once(child, 'exit')
    })
    return log
  }
  const listener = await listen(['tls/#'])
  const url = `mqtts://127.0.0.1:${broker.tlsPort}`
  run({ NODE_EXTRA_CA_CERTS: broker.authority }, '--mqtt', url, '--mqtt-prefix', 'tls')
  await listener.until(() => expect(listener.on('tls/stats')).not.toHaveLength(0))
  const doubting = run({}, '--mqtt', url, '--mqtt-prefix', 'doubt')
  await vi.waitFor(() => expect(doubting.join('')).toMatch(/self-signed certificate/), MANY_MS)
})

it('refuses settings that name no broker or no topic', async () => {
  const load = (flags: Record<string, string>) => loadConfig(flags, {}, folder)
  await expect(load({ mqtt: 'localhost:1883' })).rejects.toThrow('a URL such as mqtt://')
  await expect(load({ 'mqtt-prefix': 'a/#' })).rejects.toThrow('mqtt-prefix')
  await expect(load({ 'mqtt-qos': '3' })).rejects.toThrow('0 to 2')
})
