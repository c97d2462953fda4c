import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { Newcomers } from '../../src/access/newcomers.ts'

const SOON_MS = 30_000
let server: Server
let newcomers: Newcomers
let accepted: Socket[]
const clients: Socket[] = []
beforeEach(async () => {
  newcomers = new Newcomers({ max: 3, handshakeMs: 100 })
  accepted = []
  server = createServer((socket) => {
    accepted.push(socket)
    newcomers.add(socket, false)
  })
  server.listen(0)
  await once(server, 'listening')
})
afterEach(() => {
  for (const socket of clients.splice(0)) socket.destroy()
  server.close()
})

/** @param from an address of this machine's own */
async function open(from = '127.0.0.1', localPort?: number): Promise<Socket> {
  const count = accepted.length
  const { port } = server.address() as AddressInfo
  const socket = connect({ port, host: '127.0.0.1', localAddress: from, ...(localPort ? { localPort } : {}) })
  socket.on('error', () => undefined)
  clients.push(socket)
  await vi.waitFor(() => expect(accepted).toHaveLength(count + 1), { timeout: SOON_MS })
  return socket
}

it('keeps a bounded number of unknown connections: the address with most of them loses its oldest', async () => {
  const other = await open('127.0.0.2')
  const [first, second] = [await open(), await open()]
  await Promise.all([once(first, 'close'), open()])
  expect([other.destroyed, second.destroyed]).toEqual([false, false])
})

it('does not count known connections', async () => {
  const known = [await open(), await open(), await open()]
  for (const socket of accepted) newcomers.admit(socket)
  const unknown = [await open(), await open(), await open()]
  await Promise.all([once(unknown[0]!, 'close'), open()])
  expect(known.map(({ destroyed }) => destroyed)).toEqual([false, false, false])
})

it('does not forget a connection when an earlier one from the same port closes late', async () => {
  server.close()
  // The end of the first connection is not noticed, because nothing is read.
  server = createServer({ pauseOnConnect: true }, (socket) => {
    accepted.push(socket)
    newcomers.add(socket, false)
  })
  await once(server.listen(0), 'listening')
  const first = await open()
  const { localPort } = first
  first.resetAndDestroy()
  await once(first, 'close')
  const second = await open('127.0.0.1', localPort)
  await Promise.all([once(accepted[0]!, 'close'), accepted[0]!.destroy()])
  newcomers.closeUnused()
  expect(accepted[1]!.destroyed).toBe(true)
  await once(second, 'close')
})

it('closes connections without a request, and no others', async () => {
  const [unused, used] = [await open(), await open()]
  newcomers.asked(accepted[1]!)
  const closed = once(unused, 'close')
  newcomers.closeUnused()
  await closed
  expect(used.destroyed).toBe(false)
})

it('closes a connection whose TLS handshake does not end in time, and none whose client is known or has ended it', async () => {
  for (const _ of ['slow', 'ready', 'known']) await open()
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  const handshakes = new Newcomers({ max: 9, handshakeMs: 50 })
  for (const socket of accepted) handshakes.add(socket, true)
  handshakes.secured(accepted[1]!)
  handshakes.admit(accepted[2]!)
  const closed = () => accepted.map(({ destroyed }) => destroyed)
  vi.advanceTimersByTime(49)
  expect(closed()).toEqual([false, false, false])
  vi.advanceTimersByTime(1)
  expect(closed()).toEqual([true, false, false])
  vi.useRealTimers()
})

it('does not bound connections without access control', async () => {
  const all = new Newcomers({ isBounded: false, max: 1, handshakeMs: 100 })
  const sockets = [await open('127.0.0.2'), await open('127.0.0.3'), await open('127.0.0.4')]
  for (const socket of accepted) all.add(socket, false)
  const closed = sockets.map((socket) => once(socket, 'close'))
  await new Promise((resolve) => setImmediate(() => setImmediate(() => setImmediate(resolve))))
  expect(sockets.map(({ destroyed }) => destroyed)).toEqual([false, false, false])
  all.closeUnused()
  await Promise.all(closed)
})
