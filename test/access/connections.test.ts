import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import { request } from 'node:https'
import { connect, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { connect as connectTls } from 'node:tls'
import { afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import type { Queue } from '../../src/queue/queue.ts'
import { makeCertificate } from '../fixtures/certificate.ts'
import { Listener } from '../fixtures/mqtt-listener.ts'
import { openTestQueue, type Server, serveQueue, startServer } from '../fixtures/server.ts'

describe('slow and broken clients', () => {
  const sockets: Socket[] = []
  const dripping: NodeJS.Timeout[] = []
  let queue: Queue
  /** Servers with a short time-out for headers, and for whole requests. */
  let strict: Record<'headers' | 'requests', number>

  beforeAll(async () => {
    queue = await openTestQueue('sqlite::memory:')
    const serve = async (headersMs: number, requestMs: number) => {
      const patience = { headersMs, requestMs, lookMs: 50, heartbeatMs: 15_000, drainMs: 30_000 }
      return (await serveQueue(queue, { patience })).port
    }
    strict = { headers: await serve(300, 600_000), requests: await serve(600, 600) }
  })
  afterEach(() => {
    for (const timer of dripping.splice(0)) clearInterval(timer)
    for (const socket of sockets.splice(0)) socket.destroy()
  })

  /** Sends `start` and then `drop` repeatedly until the server closes the connection; returns the answer. */
  async function drip(port: number, start: string, drop: string): Promise<string> {
    const socket = connect(port, '127.0.0.1')
    socket.on('error', () => undefined)
    sockets.push(socket)
    let answer = ''
    socket.on('data', (chunk) => (answer += chunk))
    socket.write(start)
    if (drop !== '') dripping.push(setInterval(() => socket.write(drop), 20))
    await once(socket, 'close')
    return answer
  }
  const post = (more: string) => `POST /api/v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n${more}`

  it.each([
    ['headers', 'sends nothing', '', ''],
    ['headers', 'sends its headers one by one', 'GET / HTTP/1.1\r\n', 'X-A: b\r\n'],
    ['headers', 'sends an endless header', 'GET / HTTP/1.1\r\nX-A: ', 'a'],
    ['requests', 'sends its body byte by byte', post('Content-Length: 100000\r\n\r\n{'), ' '],
    ['requests', 'sends its body in tiny chunks', post('Transfer-Encoding: chunked\r\n\r\n'), '1\r\n \r\n'],
  ] as const)(
    'strict about %s: answers 408 to a client that %s, and closes its connection',
    async (about, _, start, drop) => {
      expect(await drip(strict[about], start, drop)).toMatch(
        /^HTTP\/1\.1 408 Request Timeout[\s\S]*"code":"request_timeout"/,
      )
    },
  )

  it('a hundred slow clients delay no other client', async () => {
    const slow = Array.from({ length: 100 }, () => drip(strict.headers, 'GET / HTTP/1.1\r\n', 'X-A: b\r\n'))
    for (let n = 0; n < 20; n++)
      expect((await fetch(`http://127.0.0.1:${strict.headers}/api/v1/live`)).status).toBe(200)
    await Promise.all(slow)
  })

  it.each([
    [
      'too many bytes of headers',
      `GET / HTTP/1.1\r\nHost: x\r\nX-A: ${'a'.repeat(17_000)}\r\n\r\n`,
      431,
      'headers_too_large',
    ],
    ['a URL that is too long', `GET /${'a'.repeat(17_000)} HTTP/1.1\r\nHost: x\r\n\r\n`, 431, 'headers_too_large'],
    ['no host', 'GET / HTTP/1.1\r\n\r\n', 400, 'invalid_request'],
    ['no HTTP', '\x16\x03\x01\x02\x00\x01\x00\r\n\r\n', 400, 'invalid_request'],
    ['two lengths', post('Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}'), 400, 'invalid_request'],
    ['a length and chunks', post('Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}'), 400, 'invalid_request'],
    ['a header with a line feed in it', 'GET / HTTP/1.1\r\nHost: x\r\nX-A: a\nb: c\r\n\r\n', 400, 'invalid_request'],
  ])('%s is refused with a problem', async (_, request, status, code) => {
    const answer = await drip(strict.headers, request, '')
    expect(answer).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `))
    expect(JSON.parse(answer.split('\r\n\r\n')[1]!)).toMatchObject({ status, code, type: `urn:xqueue:problem:${code}` })
  })
})

it('a request with an unknown expectation is answered as any other', async () => {
  const { port } = await serveQueue(await openTestQueue())
  const answer = await tell(port, 'GET /api/v1/live HTTP/1.1\r\nHost: x\r\nExpect: 200-ok\r\nConnection: close\r\n\r\n')
  expect(answer).toMatch(/^HTTP\/1\.1 200 OK\r\n/)
})

describe('a request with an absolute URL', () => {
  const get = (url: string, more = '') => `GET ${url} HTTP/1.1\r\nHost: other\r\nConnection: close\r\n${more}\r\n`

  it.each(['', '/queue'])('is answered like one with a path, below the path "%s" of a proxy', async (basePath) => {
    const { port } = await serveQueue(await openTestQueue(), { basePath })
    const path = `${basePath}/api/v1/tasks`
    const [absolute, relative] = [
      await tell(port, get(`http://127.0.0.1:${port}${path}?limit=1`)),
      await tell(port, get(`${path}?limit=1`)),
    ]
    const withoutDate = (answer: string) => answer.replace(/^date: .*$/im, '')
    expect(absolute).toMatch(/^HTTP\/1\.1 200 OK[\s\S]*cache-control: no-store/i)
    expect(withoutDate(absolute)).toBe(withoutDate(relative))
    expect(await tell(port, get(`HTTP://127.0.0.1:${port}?a=b`))).toMatch(/^HTTP\/1\.1 200 OK[\s\S]*<!doctype html>/i)
  })

  it('is judged by the host of its URL, and may upgrade', async () => {
    const open = await startServer({ auth: 'off' })
    const status = async (host: string) => (await tell(open.port, get(`http://${host}/api/v1/tasks`))).slice(9, 12)
    expect([await status('evil.example'), await status('127.0.0.1')]).toEqual(['403', '200'])
    const socket = connect(open.port, '127.0.0.1')
    const upgrade = `Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n`
    const key = 'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n'
    socket.write(get('http://127.0.0.1/mqtt').replace('Connection: close\r\n', upgrade + key))
    const [answer] = await once(socket, 'data')
    socket.destroy()
    expect(`${answer}`).toMatch(/^HTTP\/1\.1 101 /)
    await open.stop()
  })
})

/** What a server answers until it closes the connection. */
async function tell(port: number, request: string): Promise<string> {
  const socket = connect(port, '127.0.0.1')
  socket.write(request)
  return text(socket)
}

describe('with TLS', () => {
  let guarded: Server
  let ca: Buffer
  let key: string

  beforeAll(async () => {
    const files = makeCertificate()
    ca = readFileSync(files.cert)
    guarded = await startServer({ auth: 'keys', 'tls-cert': files.cert, 'tls-key': files.key })
    const rights = { scopes: ['admin'], rate: null, expiresAt: null, session: null } as const
    key = (await guarded.ring.add({ name: 'tls', ...rights })).token
    await vi.waitFor(async () => expect((await ask('GET', '/session')).body.name).toBe('tls'), { timeout: 30_000 })
  })

  async function ask(method: string, path: string, body?: object) {
    const headers = { Authorization: `Bearer ${key}`, ...(body ? { 'Content-Type': 'application/json' } : {}) }
    const call = request(`${guarded.url}/api/v1${path}`, { method, headers, ca, agent: false })
    call.end(body && JSON.stringify(body))
    const [answer] = (await once(call, 'response')) as [IncomingMessage]
    let text = ''
    for await (const chunk of answer) text += chunk
    return { status: answer.statusCode, headers: answer.headers, body: text.startsWith('{') ? JSON.parse(text) : null }
  }

  it('serves HTTPS, sends Strict-Transport-Security, and answers no plain HTTP', async () => {
    const { status, headers } = await ask('GET', '/stats')
    expect([status, headers['strict-transport-security']]).toEqual([200, 'max-age=31536000'])
    const plain = connect(Number(new URL(guarded.url).port), '127.0.0.1')
    plain.on('error', () => undefined)
    plain.write('GET /api/v1/live HTTP/1.1\r\nHost: x\r\n\r\n')
    let text = ''
    plain.on('data', (chunk) => (text += chunk))
    await once(plain, 'close')
    expect(text).not.toContain('200 OK')
  })

  it('makes the cookie of a session Secure', async () => {
    expect((await ask('POST', '/session', { key })).headers['set-cookie']![0]).toMatch(/; Secure$/)
  })

  it('serves MQTT with TLS on the port and over WebSocket, and gives subscribers these URLs', async () => {
    const { checks } = (await ask('GET', '/health')).body
    const port = /mqtts:\/\/[\d.:]+/.exec(JSON.stringify(checks))![0]
    const { url, topics, password } = (await ask('POST', '/subscriptions', { types: ['quick'] })).body
    expect(url).toBe(`${guarded.url.replace('https', 'wss')}/mqtt`)
    for (const [to, pass] of [
      [port, key],
      [url, password],
    ]) {
      const listener = await Listener.connect(to, topics, { username: 'key', password: pass, ca })
      const { id } = (await ask('POST', '/tasks', { type: 'quick' })).body
      await listener.until(() => expect(listener.on(`xqueue/events/quick/success/${id}`)).toHaveLength(1))
      await listener.close()
    }
  })

  it('ends unfinished handshakes on both ports, also of clients that send them byte by byte', {
    timeout: 60_000,
  }, async () => {
    const { checks } = (await ask('GET', '/health')).body
    const mqtt = Number(/mqtts:\/\/[\d.]+:(\d+)/.exec(JSON.stringify(checks))![1])
    const ends: Promise<unknown>[] = []
    const dripping: NodeJS.Timeout[] = []
    for (const port of [Number(new URL(guarded.url).port), mqtt]) {
      for (const drips of [false, true]) {
        const socket = connect(port, '127.0.0.1')
        socket.on('error', () => undefined)
        // A byte that arrives after the end is answered with a reset, which `once` would take for a failure.
        ends.push(new Promise((resolve) => socket.once('close', resolve)))
        // The beginning of a ClientHello of 512 bytes, whose rest is never sent.
        socket.write(Buffer.from('1603010200010001fc0303', 'hex'))
        if (drips) dripping.push(setInterval(() => socket.write('x'), 500))
      }
    }
    await Promise.all(ends)
    for (const timer of dripping) clearInterval(timer)
    expect((await ask('GET', '/stats')).status).toBe(200)
  })

  it('closes while handshakes are unfinished', async () => {
    const files = makeCertificate()
    const closing = await startServer({ auth: 'keys', 'tls-cert': files.cert, 'tls-key': files.key })
    const idle = connect(Number(new URL(closing.url).port), '127.0.0.1')
    await once(idle, 'connect')
    const asked = connectTls({
      host: '127.0.0.1',
      port: Number(new URL(closing.url).port),
      ca: readFileSync(files.cert),
    })
    asked.write('GET /api/v1/live HTTP/1.1\r\nHost: x\r\n\r\n')
    await once(asked, 'data')
    await Promise.all([closing.stop(), once(idle, 'close'), once(asked, 'close')])
  })
})
