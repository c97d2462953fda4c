import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { promisify } from 'node:util'
import { pino } from 'pino'
import { beforeAll, describe, expect, it, vi } from 'vitest'
import { startServer } from '../../src/index.ts'
import { ADMISSION } from '../../src/server/admission.ts'
import { Starting } from '../../src/server/starting.ts'
import { makeCertificate } from '../fixtures/certificate.ts'
import { closeAfterwards } from '../fixtures/closing.ts'
import { freePort } from '../fixtures/ports.ts'
import { openTestQueue, serveQueue, startServer as startApp } from '../fixtures/server.ts'

/** Answers before a request was read: they reach clients that read nothing before they have written everything. */

const MIB = 1024 * 1024
/** Prints the beginning of the answer to each head; the last one is followed by a body. */
const CLIENT = `
import socket, ssl, sys
port, size, isTls, *heads = sys.argv[1:]
connection = socket.create_connection(("127.0.0.1", int(port)))
if isTls == "true":
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = context.wrap_socket(connection)
for head in heads[:-1]:
    connection.sendall(head.encode())
    connection.recv(65536)
connection.sendall(heads[-1].encode() + b"a" * int(size))
print(connection.recv(12).decode())
`

async function statusOf(port: number, heads: string | string[], { bytes = 20 * MIB, isTls = false } = {}) {
  const args = ['-c', CLIENT, port, bytes, isTls, ...[heads].flat()].map(String)
  const { stdout } = await promisify(execFile)('python3', args)
  return Number(stdout.slice('HTTP/1.1 '.length))
}

/** The head of a call that is the last of its connection. */
const head = (line: string, ...more: string[]) => {
  const length = more.some((each) => /^(content-length|transfer-encoding)/i.test(each))
    ? []
    : [`Content-Length: ${20 * MIB}`]
  const lines = ['Host: x', 'Connection: close', ...length, ...more]
  return `${line} HTTP/1.1\r\n${lines.map((each) => `${each}\r\n`).join('')}\r\n`
}
const json = 'Content-Type: application/json'
const submit = head('POST /api/v1/tasks', json)

let port: number
/** By the ports of their clients. */
const connections = new Map<number, Socket>()
beforeAll(async () => {
  port = (await serveWatched()).port
})

async function serveWatched() {
  const server = await serveQueue(await openTestQueue())
  server.fastify.server.on('connection', (socket: Socket) => connections.set(socket.remotePort!, socket))
  return server
}

it.each([
  [413, 'a body that is too large', submit],
  [413, 'chunks that are too large', head('POST /api/v1/tasks', json, 'Transfer-Encoding: chunked') + '1400000\r\n'],
  [413, 'a body over HTTP/1.0', submit.replace('HTTP/1.1', 'HTTP/1.0')],
  [415, 'a body that is no JSON', head('POST /api/v1/tasks', 'Content-Type: text/plain')],
  [404, 'an unknown path', head('POST /api/v1/nothing', json)],
  [400, 'a path that cannot be decoded', head('POST /%zz', json)],
  [403, 'a page of another site', head('POST /api/v1/tasks', json, 'Origin: https://other.example')],
  [400, 'no host', submit.replace('Host: x\r\n', '')],
  [400, 'two lengths', head('POST /api/v1/tasks', 'Content-Length: 3', 'Content-Length: 4')],
  [431, 'endless headers', head('POST /api/v1/tasks').replace(/\r\n\r\n$/, '\r\nX: ')],
  [200, 'a body where none is read', head('GET /api/v1/live', json)],
])('%d for %s reaches a client that writes its whole request first', async (status, _, request) => {
  expect(await statusOf(port, request)).toBe(status)
})

it('401 reaches it, also over TLS', async () => {
  const files = makeCertificate()
  const guarded = await startApp({ auth: 'keys', 'tls-cert': files.cert, 'tls-key': files.key })
  expect(await statusOf(guarded.port, submit, { isTls: true })).toBe(401)
  await guarded.stop()
})

it('503 of an overloaded server reaches it, for the first call of a connection and for later ones', async () => {
  const admission = { ...ADMISSION, callsMax: 0 }
  const loaded = await serveQueue(await openTestQueue(), { admission })
  const live = 'GET /api/v1/live HTTP/1.1\r\nHost: x\r\n\r\n'
  for (const heads of [submit, [live, submit]]) expect(await statusOf(loaded.port, heads)).toBe(503)
})

it('503 of a server that is starting reaches it', async () => {
  const at = await freePort()
  const starting = await Starting.listen({ host: '127.0.0.1', port: at }, null)
  expect(await statusOf(at, submit)).toBe(503)
  await starting.close()
})

it('a refusal reaches it through the server of another program', async () => {
  const xqueue = await startServer({ engine: 'sqlite::memory:', listen: false, logger: pino({ level: 'silent' }) })
  closeAfterwards(() => xqueue.stop())
  const own = createServer(xqueue.handler)
  closeAfterwards(() => void own.close())
  await once(own.listen(0, '127.0.0.1'), 'listening')
  expect(await statusOf((own.address() as AddressInfo).port, submit)).toBe(403)
})

describe('a client that waits with its body', () => {
  const asking = (length: number, ...more: string[]) =>
    head('POST /api/v1/tasks', json, 'Expect: 100-continue', `Content-Length: ${length}`, ...more)

  async function firstLine(request: string): Promise<string> {
    const socket = connect(port, '127.0.0.1')
    socket.write(request)
    const [answer] = await once(socket, 'data')
    socket.destroy()
    return `${answer}`.split('\r\n')[0]!
  }

  it('is refused before it sends it', async () => {
    expect(await firstLine(asking(20 * MIB))).toBe('HTTP/1.1 413 Payload Too Large')
    expect(await firstLine(asking(2, 'Origin: https://other.example'))).toBe('HTTP/1.1 403 Forbidden')
  })

  it('is asked for it if it is needed', async () => {
    const socket = connect(port, '127.0.0.1')
    socket.write(asking(2))
    const [answer] = await once(socket, 'data')
    expect(`${answer}`).toBe('HTTP/1.1 100 Continue\r\n\r\n')
    socket.end('{}')
    expect(await text(socket)).toMatch(/^HTTP\/1\.1 400 [\s\S]*type is required/)
  })
})

it('leaves a kept connection as it was when the rest of a refused request has arrived', async () => {
  const socket = connect(port, '127.0.0.1')
  const listeners = () => connections.get(socket.localPort!)!.listenerCount('close')
  const refused = 'POST /api/v1/nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n'
  const counts: number[] = []
  for (let n = 0; n < 3; n++) {
    socket.write(refused)
    const [answer] = await once(socket, 'data')
    expect(`${answer}`).toMatch(/^HTTP\/1\.1 404 /)
    socket.write(`{}GET /api/v1/live HTTP/1.1\r\nHost: x\r\n\r\n`)
    const [next] = await once(socket, 'data')
    expect(`${next}`).toMatch(/^HTTP\/1\.1 200 /)
    counts.push(listeners())
  }
  expect(new Set(counts).size).toBe(1)
  socket.destroy()
})

describe('the rest of a refused request is not read for ever', () => {
  /** Sends a refused request and then what `send` writes, until the server closes the connection; returns the bytes. */
  async function untilClosed(
    request: string,
    send: (write: (bytes: Buffer, then?: () => void) => void) => void,
    to = port,
  ) {
    const socket = connect({ port: to, host: '127.0.0.1', allowHalfOpen: true })
    socket.on('error', () => undefined)
    socket.resume().write(request)
    await vi.waitFor(() => expect(connections.has(socket.localPort!)).toBe(true))
    const connection = connections.get(socket.localPort!)!
    send((bytes, then) => !socket.destroyed && !connection.destroyed && socket.write(bytes, then))
    if (!connection.destroyed) await once(connection, 'close')
    socket.destroy()
    return socket.bytesWritten
  }

  it('whether the client sends nothing or little', async () => {
    const kept = submit.replace('Connection: close\r\n', '')
    const unparsed = submit.replace('HTTP/1.1', 'HTTP/x')
    const orders = [submit, kept, unparsed].map(async (request) => {
      const order: string[] = []
      let drip: NodeJS.Timeout | undefined
      const little = untilClosed(request, (write) => (drip = setInterval(() => write(Buffer.from(' ')), 100)))
      const nothing = untilClosed(request, () => undefined)
      await Promise.all([little.then(() => order.push('little')), nothing.then(() => order.push('nothing'))])
      clearInterval(drip)
      return order
    })
    expect(await Promise.all(orders)).toEqual(orders.map(() => ['nothing', 'little']))
  })

  it('and ends soon when the server closes', async () => {
    const closing = await serveWatched()
    const drips: NodeJS.Timeout[] = []
    let count = 0
    const drip = (write: (bytes: Buffer) => void) => {
      const one = () => {
        count += 1
        write(Buffer.from(' '))
      }
      drips.push(setInterval(one, 100))
    }
    const order: string[] = []
    const open = untilClosed(submit, drip).then(() => order.push('open'))
    // Of two open servers, the first one would close its connection first.
    await vi.waitFor(() => expect(count).toBeGreaterThan(10), 20_000)
    const closed = untilClosed(submit, drip, closing.port).then(() => order.push('closing'))
    await vi.waitFor(() => expect(drips).toHaveLength(2))
    await closing.stop()
    await Promise.all([open, closed])
    for (const timer of drips) clearInterval(timer)
    expect(order).toEqual(['closing', 'open'])
  })

  it('nor more than a certain number of bytes', async () => {
    const chunk = Buffer.alloc(MIB, 'a')
    const endless = head('POST /api/v1/tasks', json, `Content-Length: ${10_000 * MIB}`)
    const bytes = await untilClosed(endless, (write) => {
      const next = () => write(chunk, next)
      next()
    })
    expect(bytes).toBeGreaterThan(60 * MIB)
    expect(bytes).toBeLessThan(100 * MIB)
  })
})
