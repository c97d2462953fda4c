import { once } from 'node:events'
import { jwtVerify } from 'jose'
import mqtt from 'mqtt'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { WebSocket } from 'ws'
import { BUDGETS } from '../../src/notify/budgets.ts'
import { event, Listener } from '../fixtures/mqtt-listener.ts'
import { type Server, startServer } from '../fixtures/server.ts'

const SOON_MS = 30_000
const closing: Listener[] = []
let guarded: Server
let reader: string
let submitter: string
let url: string

beforeAll(async () => {
  guarded = await startServer({ auth: 'keys' })
  reader = await guarded.key(['read'])
  submitter = await guarded.key(['submit'])
  url = await guarded.mqttUrl(reader)
})
afterAll(async () => {
  for (const listener of closing) await listener.close()
})

async function listen(password: string, filters: string[], to = url): Promise<Listener> {
  const listener = await Listener.connect(to, filters, { username: 'key', password })
  closing.push(listener)
  return listener
}
/** The return code of a refused connection. */
async function refusalOf(options: object, to = url): Promise<number> {
  const client = mqtt.connect(to, { reconnectPeriod: 0, protocolVersion: 4, ...options })
  const [error] = await once(client as never, 'error')
  await client.endAsync(true)
  return (error as { code: number }).code
}
async function submit(type: string): Promise<string> {
  return (await guarded.as(submitter).call('POST', '/tasks', { type })).body.id
}
const subscribe = (body: object, key = reader) => guarded.as(key).call('POST', '/subscriptions', body)

it.each(['tcp', 'ws'])('lets a key with the scope read receive everything over %s, with any user name', async (how) => {
  const to = how === 'tcp' ? url : `${guarded.url.replace('http', 'ws')}/mqtt`
  const listener = await listen(reader, ['xqueue/#'], to)
  const id = await submit('quick')
  await listener.until(() => expect(listener.statuses(`xqueue/tasks/${id}`).at(-1)).toBe('success'))
})

it('refuses a client with no password, a wrong one, or a key without the scope', async () => {
  expect(await refusalOf({})).toBe(5)
  expect(await refusalOf({ username: 'key', password: `xq_${'x'.repeat(43)}` })).toBe(5)
  expect(await refusalOf({ username: reader, password: 'key' })).toBe(5)
  expect(await refusalOf({ username: 'key', password: submitter })).toBe(5)
  expect(await refusalOf({}, `${guarded.url.replace('http', 'ws')}/mqtt`)).toBe(5)
})

it('disconnects a subscriber over MQTT and over events when its key is revoked', async () => {
  const { token, key } = await guarded.newKey(['read'])
  const client = mqtt.connect(url, { reconnectPeriod: 0, username: 'key', password: token })
  await event(client, 'connect')
  const events = await fetch(`${guarded.url}/api/v1/events`, { headers: { Authorization: `Bearer ${token}` } })
  const closed = event(client, 'close')
  await guarded.ring.drop(key.id)
  await closed
  await events.text() // It ends.
})

it('ends a wait for tasks with an empty answer when its key is revoked', async () => {
  const { token, key } = await guarded.newKey(['work'])
  const body = { types: ['quick'], wait: 60, worker_id: 'w-1' }
  const waiting = guarded.as(token).call('POST', '/tasks/consume', body)
  const workers = async () => (await guarded.queue.workers()).map(({ id }) => id)
  await vi.waitFor(async () => expect((await workers()).some((id) => id.endsWith('/w-1'))).toBe(true), {
    timeout: SOON_MS,
  })
  await guarded.ring.drop(key.id)
  expect(await waiting).toMatchObject({ status: 200, body: { leases: [] } })
})

it('issues a token for some tasks, which receives only those', async () => {
  const [mine, other] = [await submit('quick'), await submit('quick')]
  const { status, body } = await subscribe({ task_ids: [mine] })
  expect([status, body]).toEqual([
    201,
    {
      url: `${guarded.url.replace('http', 'ws')}/mqtt`,
      topics: [`xqueue/tasks/${mine}`, `xqueue/tasks/${mine}/progress`],
      username: 'subscription',
      password: expect.any(String),
      expires_at: expect.stringMatching(/Z$/),
    },
  ])
  const listener = await listen(body.password, body.topics, body.url)
  await listener.until(() => expect(listener.statuses(`xqueue/tasks/${mine}`).at(-1)).toBe('success'))
  const wider = [
    '#',
    'xqueue/#',
    `xqueue/tasks/${other}`,
    'xqueue/tasks/+',
    `xqueue/tasks/${mine}/#`,
    'xqueue/events/#',
  ]
  for (const filter of wider) await expect(listener.client.subscribeAsync(filter), filter).rejects.toThrow()
  expect(listener.messages.every(({ topic }) => topic.includes(mine))).toBe(true)
})

it('issues a token for some types, which the API refuses', async () => {
  const { body } = await subscribe({ types: ['quick'] })
  expect(body.topics).toEqual(['xqueue/events/quick/#'])
  const listener = await listen(body.password, ['xqueue/events/quick/+/+', 'xqueue/events/quick/success/#'])
  for (const filter of [
    'xqueue/events/show/#',
    'xqueue/events/+/success/#',
    'xqueue/events/quick',
    'xqueue/events/quickly/#',
  ]) {
    await expect(listener.client.subscribeAsync(filter), filter).rejects.toThrow()
  }
  const shown = await submit('show')
  const id = await submit('quick')
  await listener.until(() => expect(listener.on(`xqueue/events/quick/success/${id}`)).toHaveLength(1))
  expect(JSON.stringify(listener.messages)).not.toContain(shown)
  for (const path of ['/stats', '/tasks', `/tasks/${id}`]) {
    expect((await guarded.as(body.password).call('GET', path)).status).toBe(403)
  }
  expect((await subscribe({ types: ['quick'] }, body.password)).status).toBe(403)
  expect((await guarded.as(null).call('POST', '/session', { key: body.password })).status).toBe(401)
})

it('accepts such a token in the URL of EventSource, for the same tasks only', async () => {
  const { password } = (await subscribe({ types: ['quick'] })).body
  const stop = new AbortController()
  const events = await fetch(`${guarded.url}/api/v1/events?access_token=${password}`, { signal: stop.signal })
  expect(events.status).toBe(200)
  const [shown, id] = [await submit('show'), await submit('quick')]
  let text = ''
  for await (const chunk of events.body!.pipeThrough(new TextDecoderStream() as never) as AsyncIterable<string>) {
    text += chunk
    if (text.includes('"success"')) break
  }
  expect([text.includes(id), text.includes(shown)]).toEqual([true, false])
  stop.abort()
})

it('ends a token at its expiry and with the key that created it', async () => {
  const { token, key } = await guarded.newKey(['read'])
  const short = (await subscribe({ types: ['quick'], ttl: '1s' })).body.password
  const made = (await subscribe({ types: ['quick'], ttl: 3_600 }, token)).body.password
  for (const [password, end] of [
    [short, async () => undefined],
    [made, () => guarded.ring.drop(key.id)],
  ] as const) {
    const client = mqtt.connect(url, { reconnectPeriod: 0, username: 'x', password })
    await event(client, 'connect')
    const closed = event(client, 'close')
    await end()
    await closed
    await vi.waitFor(async () => expect(await refusalOf({ username: 'x', password })).toBe(5), { timeout: SOON_MS })
  }
})

it('issues no token that outlives the key that created it', async () => {
  const expiresAt = Date.now() + 600_000
  const { body } = await subscribe({ types: ['quick'], ttl: '24h' }, await guarded.key(['read'], { expiresAt }))
  expect(body.expires_at).toBe(new Date(expiresAt).toISOString())
})

it.each([
  [{}, 'task_ids'],
  [{ task_ids: ['a'], types: ['b'] }, 'task_ids'],
  [{ task_ids: ['a/#'] }, 'task_ids[0]'],
  [{ task_ids: ['a', '+'] }, 'task_ids[1]'],
  [{ types: ['a/b'] }, 'types[0]'],
  [{ types: ['#'] }, 'types[0]'],
  [{ types: [] }, 'types'],
  [{ types: ['a'], ttl: '25h' }, 'ttl'],
  [{ types: ['a'], ttl: 0 }, 'ttl'],
  [{ topics: ['xqueue/#'] }, 'topics'],
])('refuses %j', async (input, path) => {
  const { status, body } = await subscribe(input)
  expect([status, body.errors]).toEqual([400, expect.arrayContaining([{ path, message: expect.any(String) }])])
})

it('accepts this server’s own page with its session, and no other page of this machine with only the cookie', async () => {
  const login = await guarded.as(null).call('POST', '/session', { key: reader })
  const Cookie = login.headers.get('set-cookie')!.split(';')[0]!
  const ask = (origin: string) => {
    const socket = new WebSocket(`${guarded.url.replace('http', 'ws')}/mqtt`, 'mqtt', { origin, headers: { Cookie } })
    socket.on('open', () => socket.send(Buffer.from('\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01p', 'latin1')))
    // The four bytes of a CONNACK, in one message or in several.
    return new Promise<number>((resolve) => {
      let answer = Buffer.alloc(0)
      socket.on('message', (part: Buffer) => {
        answer = Buffer.concat([answer, part])
        if (answer.length < 4) return
        socket.close()
        resolve(answer[3]!)
      })
    })
  }
  expect(await ask(guarded.url)).toBe(0)
  expect(await ask('http://localhost:5173')).toBe(5)
})

it('names the allowed topics in the claims of a token for an external broker', async () => {
  const secret = 'a secret that the broker has as well'
  const flags = {
    'token-secret': secret,
    mqtt: 'mqtt://user:pass@127.0.0.1:1',
    'mqtt-public-url': 'wss://b.example/mqtt',
  }
  const elsewhere = await startServer({ auth: 'keys', ...flags, 'mqtt-prefix': 'shop' })
  const { body } = await elsewhere
    .as(await elsewhere.key(['read']))
    .call('POST', '/subscriptions', { task_ids: ['t1'] })
  expect(body).toMatchObject({ url: 'wss://b.example/mqtt', topics: ['shop/tasks/t1', 'shop/tasks/t1/progress'] })
  const { payload } = await jwtVerify(body.password, new TextEncoder().encode(secret))
  expect(payload).toMatchObject({
    iss: 'xqueue',
    exp: Math.floor(Date.parse(body.expires_at) / 1_000),
    topics: body.topics,
    acl: [
      { permission: 'allow', action: 'subscribe', topic: 'eq shop/tasks/t1' },
      { permission: 'allow', action: 'subscribe', topic: 'eq shop/tasks/t1/progress' },
      { permission: 'deny', action: 'all', topic: '#' },
    ],
  })
  await elsewhere.stop()
})

it('refuses a subscription with mqtt_off when MQTT is off', async () => {
  const silent = await startServer({ auth: 'keys', mqtt: 'off' })
  const { status, body } = await silent.as(await silent.key(['read'])).call('POST', '/subscriptions', { types: ['a'] })
  expect([status, body.code]).toEqual([409, 'mqtt_off'])
  await silent.stop()
})

it('refuses to end the connection of another principal that uses the same client id', async () => {
  const [own, other] = [await guarded.key(['read']), (await subscribe({ task_ids: ['x'] })).body.password]
  const connect = async (password: string) => {
    const client = mqtt.connect(url, { username: 'key', password, clientId: 'dashboard', reconnectPeriod: 0 })
    await once(client as never, 'connect')
    return client
  }
  const first = await connect(own)
  let isClosed = false
  first.on('close', () => (isClosed = true))
  const second = await connect(other)
  await first.subscribeAsync('xqueue/events/#') // After a round trip the connection would be closed.
  expect([isClosed, first.connected, second.connected]).toEqual([false, true, true])
  for (const client of [first, second]) await client.endAsync(true)
})

it('bounds the connections of one token', async () => {
  const { password } = (await subscribe({ task_ids: ['x'] })).body
  const clients = Array.from({ length: BUDGETS.connections.token }, () =>
    mqtt.connect(url, { username: 'x', password, reconnectPeriod: 0, protocolVersion: 4 }),
  )
  await Promise.all(clients.map((client) => once(client as never, 'connect')))
  expect(await refusalOf({ username: 'x', password })).toBe(3)
  expect(await refusalOf({ username: 'x', password: 'nonsense' })).toBe(5)
  await (await listen(reader, ['xqueue/events/#'])).close() // Other clients are still accepted.
  for (const client of clients) await client.endAsync(true)
})

it('disconnects a client that subscribes in a loop, and serves the other clients', async () => {
  const looping = mqtt.connect(url, { username: 'key', password: await guarded.key(['read']), reconnectPeriod: 0 })
  await once(looping as never, 'connect')
  looping.on('error', () => undefined) // It writes to a connection that has been closed.
  const closed = new Promise((resolve) => looping.on('close', resolve as never))
  for (let n = 0; n < BUDGETS.subscriptions.burst + BUDGETS.refusals + 10_000; n++) looping.subscribe('xqueue/tasks/x')
  expect((await guarded.as(reader).call('GET', '/stats')).status).toBe(200)
  await closed
  await (await listen(reader, ['xqueue/events/#'])).close()
})
