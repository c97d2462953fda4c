import { once } from 'node:events'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { afterEach, expect, it } from 'vitest'
import { Starting } from '../../src/server/starting.ts'
import { freePort } from '../fixtures/ports.ts'

let starting: Starting
afterEach(() => starting.close())

async function connected() {
  const port = await freePort()
  starting = await Starting.listen({ host: '127.0.0.1', port }, null)
  const socket = connect(port, '127.0.0.1')
  await once(socket, 'connect')
  // It is accepted.
  await new Promise((resolve) => setImmediate(() => setImmediate(resolve)))
  return socket
}

it('answers a call on a connection that it accepted before it was closed', async () => {
  const socket = await connected()
  const closed = starting.close()
  socket.write('GET /api/v1/stats HTTP/1.1\r\nHost: x\r\n\r\n')
  const answer = await text(socket)
  expect(answer).toMatch(/^HTTP\/1.1 503 /)
  expect(answer).toContain('Connection: close')
  expect(answer).toContain('"code":"engine_unavailable"')
  await closed
})

it('does not wait for a connection without a call', async () => {
  const socket = await connected()
  socket.on('error', () => undefined)
  await starting.close()
  await new Promise((resolve) => (socket.closed ? resolve(null) : socket.once('close', resolve)))
})
