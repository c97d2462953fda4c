import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'

/**
 * A server that answers INFO as some other version of Redis would, and everything else with PONG. The one thing that is
 * not real in these tests: a Redis that is too old cannot be installed beside the one that is not.
 */
export async function startFakeRedis(version: string): Promise<{ url: string; stop: () => Promise<void> }> {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined) // The client is gone.
    socket.on('data', (chunk) => {
      for (const _ of chunk.toString().matchAll(/\r\nPING\r\n/g)) socket.write('+PONG\r\n')
      for (const _ of chunk.toString().matchAll(/\r\nINFO\r\n/g)) {
        const info = `redis_version:${version}\r\nredis_mode:standalone\r\nrole:master\r\n`
        socket.write(`$${info.length}\r\n${info}\r\n`)
      }
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const stop = async () => {
    for (const socket of sockets) socket.destroy()
    server.close()
    await once(server, 'close')
  }
  return { url: `redis://127.0.0.1:${(server.address() as { port: number }).port}`, stop }
}
