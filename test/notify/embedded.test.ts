import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import mqtt from 'mqtt'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { WebSocket } from 'ws'
import { createLive } from '../../src/notify/create-live.ts'
import { openQueue } from '../../src/queue/open.ts'
import { completeSpec } from '../../src/task/task.ts'
import { pathOf } from '../fixtures/installed.ts'
import { event, Listener } from '../fixtures/mqtt-listener.ts'
import { type Server, startServer } from '../fixtures/server.ts'
import { liveOptions } from './live-options.ts'

let process: Server
let url: string
const closing: (() => Promise<unknown>)[] = []

beforeEach(async () => {
  process = await startServer()
  url = await process.mqttUrl()
})
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

async function listen(to: string, ...filters: string[]): Promise<Listener> {
  const listener = await Listener.connect(to, filters)
  closing.push(() => listener.close())
  return listener
}

/** Subscribes to everything on a socket that a test may leave unread. */
async function subscribeRaw(to: string): Promise<Socket> {
  const { hostname, port } = new URL(to)
  const socket = connect(Number(port), hostname)
  socket.on('error', () => undefined)
  socket.write('\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01s', 'latin1') // CONNECT as "s", without keep-alive
  socket.write('\x82\x0d\x00\x01\x00\x08xqueue/#\x00', 'latin1') // SUBSCRIBE
  for (let received = ''; !received.includes('\x90'); ) received += (await once(socket, 'data'))[0].toString('latin1') // SUBACK
  return socket
}

it('sends every state of a task in order, over TCP and over WebSocket', async () => {
  for (const listener of [await listen(url, 'xqueue/#'), await listen(process.webSocketUrl, 'xqueue/#')]) {
    const id = await process.submit('quick', { a: 1 })
    const states = ['pending', 'processing', 'success']
    await listener.until(() => expect(listener.statuses(`xqueue/tasks/${id}`)).toEqual(states))
    await listener.until(() => expect(listener.on(`xqueue/events/quick/success/${id}`)).toHaveLength(1))
    expect(listener.on(`xqueue/tasks/${id}`).at(-1)!.body).toEqual({
      event_id: expect.any(String),
      task_id: id,
      type: 'quick',
      status: 'success',
      attempts: 1,
      progress: null,
      result: { a: 1 },
      error: null,
      timeout_reason: null,
      worker_id: expect.any(String),
      timestamp: expect.stringMatching(/^\d{4}-.*Z$/),
    })
  }
})

it('publishes changes by type and by status, and progress on its own topic', async () => {
  const failures = await listen(url, 'xqueue/events/+/failed/#')
  const steps = await listen(url, 'xqueue/events/steps/#', 'xqueue/tasks/+/progress')
  const failed = await process.submit('fails')
  const id = await process.submit('steps')
  await failures.until(() => expect(failures.messages.map(({ topic }) => topic)).toHaveLength(1))
  expect(failures.messages[0]).toMatchObject({ topic: `xqueue/events/fails/failed/${failed}` })
  expect(failures.messages[0]!.body.error).toContain('<img src=x onerror=alert(1)> #+/ 不行')
  await steps.until(() => expect(steps.on(`xqueue/events/steps/success/${id}`)).toHaveLength(1))
  expect(steps.on(`xqueue/tasks/${id}/progress`).at(-1)!.body).toMatchObject({ progress: 50, status: 'processing' })
  expect(steps.messages.every(({ topic }) => topic.includes(id))).toBe(true)
})

it('sends a late subscriber the retained state of a task, or of the newest tasks', async () => {
  const id = await process.submit('quick', 7)
  const early = await listen(url, 'xqueue/events/#')
  const slow = await process.submit('slow')
  await early.until(() => expect(early.on(`xqueue/events/slow/processing/${slow}`)).toHaveLength(1))
  const late = await listen(process.webSocketUrl, `xqueue/tasks/${id}`, `xqueue/tasks/${slow}`)
  await late.until(() => expect(late.messages).toHaveLength(2))
  expect(late.on(`xqueue/tasks/${id}`)[0]).toMatchObject({
    body: { status: 'success', result: 7, event_id: null },
    packet: { retain: true },
  })
  expect(late.on(`xqueue/tasks/${slow}`)[0]).toMatchObject({ body: { status: 'processing' } })
  await process.call('DELETE', `/tasks/${slow}`)
  await late.until(() => expect(late.statuses(`xqueue/tasks/${slow}`)).toEqual(['processing', 'canceled']))
  const all = await listen(url, 'xqueue/tasks/+')
  await all.until(() => expect(all.messages.map(({ body }) => body.status)).toEqual(['success', 'canceled']))
})

it('sends the changes of one task for a filter with wildcards, and states with at most the requested QoS', async () => {
  const id = await process.submit('slow')
  const listener = await listen(url, `xqueue/events/+/+/${id}`, `xqueue/+/${id}/#`)
  const plain = await listen(url)
  await plain.client.subscribeAsync('xqueue/tasks/+', { qos: 0 })
  await plain.until(() => expect(plain.on(`xqueue/tasks/${id}`)).not.toHaveLength(0))
  const other = await process.submit('quick')
  await process.call('DELETE', `/tasks/${id}`)
  await listener.until(() => expect(listener.statuses(`xqueue/tasks/${id}`).at(-1)).toBe('canceled'))
  await listener.until(() => expect(listener.on(`xqueue/events/slow/canceled/${id}`)).toHaveLength(1))
  await plain.until(() => expect(plain.statuses(`xqueue/tasks/${other}`).at(-1)).toBe('success'))
  expect(listener.messages.filter(({ topic }) => topic.includes(other))).toEqual([])
  expect(plain.messages.filter(({ packet }) => packet.qos > 0)).toEqual([])
})

it('sends the same to subscribers with and without acknowledgements, at the same time', async () => {
  const listeners = await Promise.all([listen(url), listen(url), listen(process.webSocketUrl), listen(url)])
  for (const [index, { client }] of listeners.entries()) {
    await client.subscribeAsync('xqueue/events/#', { qos: (index % 2) as 0 | 1 })
  }
  const ids = await Promise.all(Array.from({ length: 100 }, (_, n) => process.submit('quick', 'é'.repeat(n * 20))))
  for (const listener of listeners) {
    await listener.until(() => expect(listener.messages).toHaveLength(ids.length * 3))
    for (const [n, id] of ids.entries()) {
      expect(listener.on(`xqueue/events/quick/success/${id}`)[0]!.body.result).toBe('é'.repeat(n * 20))
    }
  }
})

it('numbers acknowledged messages in one sequence for each subscriber, states and changes alike', async () => {
  const before = await Promise.all(Array.from({ length: 20 }, () => process.submit('quick')))
  const listener = await listen(url, 'xqueue/tasks/+')
  await listener.until(() => expect(listener.messages).toHaveLength(before.length))
  const last = await process.submit('quick')
  await listener.until(() => expect(listener.statuses(`xqueue/tasks/${last}`).at(-1)).toBe('success'))
  const acknowledged = listener.messages.filter(({ packet }) => packet.qos > 0)
  expect(acknowledged.length).toBeGreaterThan(before.length)
  expect(acknowledged.map(({ packet }) => packet.messageId)).toEqual(acknowledged.map((_, index) => index + 1))
})

it('never sends a subscriber that joins in the middle an older state after a newer one', async () => {
  const order = ['pending', 'processing', 'success']
  for (let round = 0; round < 40; round++) {
    const id = await process.submit('steps')
    const listener = await listen(url, `xqueue/tasks/${id}`)
    await listener.until(() => expect(listener.statuses(`xqueue/tasks/${id}`).at(-1)).toBe('success'))
    const seen = listener.statuses(`xqueue/tasks/${id}`).map((status) => order.indexOf(status))
    expect(seen).toEqual([...new Set(seen)].sort())
    await listener.close()
  }
})

it('grants subscriptions under the prefix only, and accepts no publications', async () => {
  const id = await process.submit('slow')
  const listener = await listen(url, 'xqueue/#')
  for (const filter of ['#', '+/tasks/#', 'other/x', '$SYS/#', 'xqueue']) {
    const refused = listener.client.subscribeAsync(filter)
    await expect(refused, filter).rejects.toThrow()
  }
  const intruder = mqtt.connect(url, { reconnectPeriod: 0 })
  await event(intruder, 'connect')
  await intruder.publishAsync(`xqueue/tasks/${id}`, 'not even JSON', { qos: 1, retain: true })
  await intruder.endAsync()
  const dying = mqtt.connect(url, {
    reconnectPeriod: 0,
    will: { topic: `xqueue/tasks/${id}`, payload: Buffer.from('a will'), qos: 0, retain: false },
  })
  await event(dying, 'connect')
  dying.stream.destroy()
  await event(dying, 'close')
  await process.call('DELETE', `/tasks/${id}`)
  await listener.until(() => expect(listener.statuses(`xqueue/tasks/${id}`).at(-1)).toBe('canceled'))
  expect(listener.messages.filter(({ body }) => /JSON|will/.test(String(body)))).toEqual([])
})

it('survives clients that do not send MQTT', async () => {
  const { hostname, port } = new URL(url)
  for (const bytes of ['GET / HTTP/1.1\r\n\r\n', '\x10\xff\xff\xff\x7f', '\x00'.repeat(5_000)]) {
    const socket = connect(Number(port), hostname)
    socket.on('error', () => undefined)
    socket.end(bytes, 'latin1')
    await once(socket, 'close')
  }
  const listener = await listen(url, 'xqueue/events/#')
  const id = await process.submit('quick')
  await listener.until(() => expect(listener.on(`xqueue/events/quick/success/${id}`)).toHaveLength(1))
})

it('accepts pages of its own and of this machine, and no others', async () => {
  const ask = (origin: string | undefined, path = '') =>
    new Promise<number>((resolve) => {
      const socket = new WebSocket(process.webSocketUrl + path, 'mqtt', origin === undefined ? {} : { origin })
      socket.on('open', () => {
        socket.close()
        resolve(101)
      })
      socket.on('unexpected-response', (_request, answer) => resolve(answer.statusCode!))
      socket.on('error', () => undefined)
    })
  const welcome = [undefined, process.url, 'http://localhost:5173']
  expect(await Promise.all(welcome.map((origin) => ask(origin)))).toEqual([101, 101, 101])
  expect(await Promise.all(['https://evil.example', 'null'].map((origin) => ask(origin)))).toEqual([403, 403])
  expect(await ask(undefined, '/else')).toBe(404)
  await process.stop()
  process = await startServer({ 'mqtt-origins': 'https://one.example, null' })
  const named = ['https://one.example', 'null', process.url, 'https://evil.example', 'http://localhost:5173']
  expect(await Promise.all(named.map((origin) => ask(origin)))).toEqual([101, 101, 101, 403, 403])
})

it('reports a port that is in use, and continues with WebSocket', async () => {
  const taken = createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  const { port } = taken.address() as { port: number }
  const second = await startServer({ 'mqtt-port': String(port) })
  closing.push(
    () => second.stop(),
    async () => taken.close(),
  )
  expect(second.log.join('')).toMatch(new RegExp(`port ${port} is in use.*--mqtt-port`))
  expect(await second.mqttCheck()).toMatchObject({ status: 200, overall: 'healthy', ok: true })
  const listener = await listen(second.webSocketUrl, 'xqueue/events/#')
  const id = await second.submit('quick')
  await listener.until(() => expect(listener.on(`xqueue/events/quick/success/${id}`)).toHaveLength(1))
})

it('publishes statistics each second, and the workers', async () => {
  const listener = await listen(url, 'xqueue/stats', 'xqueue/workers/+')
  await process.submit('quick')
  await listener.until(() => expect(listener.on('xqueue/stats').at(-1)?.body).toMatchObject({ success_tasks: 1 }))
  const { types } = listener.on('xqueue/stats').at(-1)!.body
  expect(types.find(({ type }: { type: string }) => type === 'slow')).toMatchObject({ max_concurrency: 2, pending: 0 })
  const worker = (await process.call('GET', '/workers')).body.workers[0].id
  expect(listener.on(`xqueue/workers/${worker}`)[0]).toMatchObject({ body: 'online', packet: { retain: true } })
})

it('publishes the settings of limits: all of them on subscription, then each change', async () => {
  const set = (name: string, body: object) => process.call('PUT', `/limits/${encodeURIComponent(name)}`, body)
  const free = { rate: null, paused: false, held_until: null }
  await set('gpu', { max: 2 })
  const listener = await listen(url, 'xqueue/limits/+')
  await listener.until(() => expect(listener.on('xqueue/limits/gpu')).toHaveLength(1))
  expect(listener.on('xqueue/limits/gpu')[0]).toMatchObject({ body: { name: 'gpu', max: 2, ...free } })
  expect(listener.on('xqueue/limits/type:slow')[0]!.body).toEqual({ name: 'type:slow', max: 2, ...free })
  await set('open+ai/*', { rate: { max: 9, per: '1m' } })
  await listener.until(() => expect(listener.on('xqueue/limits/open%2Bai%2F*')).toHaveLength(1))
  await process.call('POST', '/limits/gpu/pause')
  await listener.until(() => expect(listener.on('xqueue/limits/gpu').at(-1)!.body.paused).toBe(true))
  const one = await listen(url, 'xqueue/limits/gpu')
  await one.until(() => expect(one.messages).toMatchObject([{ body: { max: 2, paused: true } }]))
  await process.call('DELETE', '/limits/gpu')
  for (const some of [one, listener]) {
    await some.until(() => expect(some.on('xqueue/limits/gpu').at(-1)!.body).toBe(''))
  }
  expect(one.messages).toHaveLength(2)
})

it('escapes the name of a worker that is not valid in a topic', async () => {
  const listener = await listen(url, 'xqueue/workers/#')
  const worker_id = 'a+b/#%世'
  const consuming = process.call('POST', '/tasks/consume', { types: ['elsewhere'], wait: 3, worker_id })
  await listener.until(() => expect(listener.on('xqueue/workers/a%2Bb%2F%23%25世')).not.toHaveLength(0))
  const late = await listen(url, 'xqueue/workers/+')
  await late.until(() => expect(late.on('xqueue/workers/a%2Bb%2F%23%25世')).toMatchObject([{ body: 'online' }]))
  await consuming
})

it('disconnects subscribers if changes were removed before they were published, so that they read the state again', async () => {
  const queue = await openQueue('sqlite::memory:', { eventsMax: 10 })
  await queue.configureType('t', { declared: true })
  const live = await createLive({ ...liveOptions('embedded'), queue })
  await live.start(null)
  closing.push(
    () => queue.close(),
    () => live.stop(),
  )
  const broker = /mqtt:\/\/[\d.:]+/.exec(live.check().detail)![0]
  const listener = await listen(broker, 'xqueue/events/#')
  const stuck = await subscribeRaw(broker)
  stuck.pause()
  const worker = { id: 'w', host: 'h', pid: 1, types: ['t'], concurrency: 100, startedAt: Date.now() }
  const submit = (count: number) => queue.submit(Array.from({ length: count }, () => completeSpec({ type: 't' })))
  await submit(40)
  const { leases } = await queue.turn({ worker, want: 40 })
  const outcome = { kind: 'success', result: 'x'.repeat(900_000) } as const
  await queue.turn({ worker, want: 0, outcomes: leases.map(({ lease }) => ({ lease, outcome })) })
  await listener.until(() => expect(listener.messages.some(({ body }) => body.status === 'success')).toBe(true))
  // The page that the stuck one does not take is on its way; behind it the outbox runs over.
  for (let n = 0; n < 30; n++) await submit(1)
  while ((await queue.sweep(100)).more);
  await event(listener.client, 'close')
  stuck.destroy()
})

it('sends the subscribers of each process the changes of all processes', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'xqueue-mqtt-'))
  const queue = `sqlite:${join(folder, 'x.db')}`
  const one = await startServer({ engine: queue })
  const two = await startServer({ engine: queue })
  const first = await listen(await one.mqttUrl(), 'xqueue/events/#', 'xqueue/workers/+')
  const second = await listen(await two.mqttUrl(), 'xqueue/events/#')
  const ids = [await one.submit('quick'), await two.submit('quick')]
  for (const listener of [first, second]) {
    for (const id of ids) {
      await listener.until(() => expect(listener.on(`xqueue/events/quick/success/${id}`)).toHaveLength(1))
    }
  }
  await second.close()
  await two.stop()
  await first.until(() => expect(first.messages.some(({ body }) => body === 'offline')).toBe(true))
  await first.close()
  await one.stop()
  rmSync(folder, { recursive: true, force: true })
})

it('disconnects a subscriber that does not read; the others receive everything', async () => {
  const stuck = await subscribeRaw(url)
  stuck.pause()
  const listener = await listen(url, 'xqueue/events/quick/success/#')
  const payload = 'x'.repeat(200_000)
  const ids = await Promise.all(Array.from({ length: 60 }, () => process.submit('quick', payload)))
  await listener.until(() => expect(listener.messages).toHaveLength(ids.length))
  await listener.until(() => expect(process.log.join('').includes('an MQTT client was disconnected')).toBe(true))
  stuck.destroy()
})

it.each([0, 1, 2] as const)(
  'sends a subscriber with QoS %d each change once, however many of its filters match',
  async (qos) => {
    const listener = await listen(url)
    await listener.client.subscribeAsync(['xqueue/events/#', 'xqueue/events/quick/+/+'], { qos: 0 })
    await listener.client.subscribeAsync('xqueue/events/quick/#', { qos })
    const ids = await Promise.all(Array.from({ length: 20 }, (_, n) => process.submit('quick', '界'.repeat(n * 500))))
    for (const [n, id] of ids.entries()) {
      const topic = `xqueue/events/quick/success/${id}`
      await listener.until(() => expect(listener.on(topic)[0]?.body.result).toBe('界'.repeat(n * 500)))
      expect(listener.on(topic).map(({ packet }) => packet.qos)).toEqual([Math.min(qos, 1)])
    }
    await listener.client.unsubscribeAsync(['xqueue/events/#', 'xqueue/events/quick/+/+', 'xqueue/events/quick/#'])
    await listener.client.subscribeAsync('xqueue/events/fails/#', { qos })
    const before = listener.messages.length
    await process.submit('quick')
    const failed = await process.submit('fails')
    await listener.until(() => expect(listener.on(`xqueue/events/fails/failed/${failed}`)).toHaveLength(1))
    expect(listener.messages.slice(before).every(({ topic }) => topic.includes(failed))).toBe(true)
  },
)

it('serves mosquitto_sub', async () => {
  const id = await process.submit('quick', { n: 42 })
  const { hostname, port } = new URL(url)
  const args = ['-h', hostname, '-p', port, '-q', '2', '-t', `xqueue/tasks/${id}`, '-C', '1', '-W', '20']
  const child = spawn(pathOf('mosquitto_sub')!, args)
  let received = ''
  child.stdout.on('data', (chunk) => {
    received += chunk
  })
  expect((await once(child, 'close'))[0]).toBe(0)
  expect(JSON.parse(received)).toMatchObject({ task_id: id, result: { n: 42 } })
})

it('sends the lines of a log that a filter names: the kept ones, then each new one, and only to keys that see contents', async () => {
  const of = await startServer({ auth: 'keys' })
  const admin = of.as(await of.key(['admin']))
  await admin.call('POST', '/types/talks', { declared: true })
  const id = (await admin.call('POST', '/tasks', { type: 'talks' })).body.id
  const { body } = await admin.call('POST', '/tasks/consume', { types: ['talks'], wait: 20 })
  const { lease } = body.leases[0]
  const log = (message: string) => admin.call('POST', `/leases/${lease}/heartbeat`, { logs: [{ message }] })
  await log('one')
  const topic = `xqueue/tasks/${id}/logs`
  const to = await of.mqttUrl(await of.key(['read']))
  const login = async (scope: 'read' | 'view') => ({ username: 'k', password: await of.key([scope]) })
  const reader = await Listener.connect(to, [topic], await login('read'))
  const viewer = await Listener.connect(to, [topic, `xqueue/tasks/${id}`], await login('view'))
  closing.push(
    () => reader.close(),
    () => viewer.close(),
  )
  const numbers = (listener: Listener) => [...new Set(listener.on(topic).map(({ body }) => body.n))]
  await reader.until(() => expect(numbers(reader)).toEqual([1]))
  await log('two')
  await reader.until(() => expect(numbers(reader)).toEqual([1, 2]))
  expect(reader.on(topic).at(-1)!.body).toMatchObject({ n: 2, attempt: 1, level: 'info', message: 'two' })
  await admin.call('POST', `/leases/${lease}/complete`, { logs: [{ message: 'three' }] })
  await reader.until(() => expect(numbers(reader)).toEqual([1, 2, 3]))
  // A later subscriber receives all of them.
  const late = await Listener.connect(to, [topic], await login('read'))
  closing.push(() => late.close())
  await late.until(() => expect(numbers(late)).toEqual([1, 2, 3]))
  await viewer.until(() => expect(viewer.statuses(`xqueue/tasks/${id}`)).toContain('success'))
  expect(viewer.on(topic)).toEqual([])
})
