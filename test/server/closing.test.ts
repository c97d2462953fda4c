import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { expect, it, vi } from 'vitest'
import { openTestQueue, serveQueue } from '../fixtures/server.ts'

/** The bytes until the server closes the connection, from its answer with this status on. */
async function answerOf(status: number, socket: Socket): Promise<{ headers: string; body: string }> {
  const received = await text(socket)
  const at = received.indexOf(`HTTP/1.1 ${status}`)
  expect(at, received).toBeGreaterThan(0)
  const [headers, body] = received.slice(at).split('\r\n\r\n', 2)
  return { headers: headers!, body: body! }
}

it('while it closes, a server answers every route with a problem and Retry-After', async () => {
  const { fastify, port } = await serveQueue(await openTestQueue())
  const routes = [...fastify.routeScopes.keys()]
    .map((route) => route.replace('HEAD,', '')) // Routes of files name two methods.
    .filter((route) => !route.startsWith('HEAD '))
    .map((route) => route.split(' ') as [method: string, url: string])
  routes.push(['GET', '/nowhere'])
  // Each connection is kept open by a request that has not arrived in full.
  const sockets: Socket[] = []
  for (const _ of routes) {
    const socket = connect(port, '127.0.0.1')
    const head = 'POST /api/v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n'
    const begun = once(fastify.server, 'request')
    socket.write(`${head}\r\n{`)
    await begun
    sockets.push(socket)
  }
  const closed = fastify.close()
  await vi.waitFor(() => expect(fastify.server.listening).toBe(false))
  for (const [at, [method, url]] of routes.entries()) {
    const socket = sockets[at]!
    const path = url.replace(/:\w+/g, 'x').replace('*', 'x')
    socket.write(`}${method} ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n`)
    const { headers, body } = await answerOf(503, socket)
    expect(headers).toMatch(/^content-type: application\/problem\+json/im)
    expect(headers).toMatch(/^retry-after: \d+/im)
    expect(JSON.parse(body), `${method} ${path}`).toMatchObject({ status: 503, code: 'shutting_down' })
  }
  await closed
})
