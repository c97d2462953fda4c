import { once } from 'node:events'
import { createServer } from 'node:net'

/** A port that nobody listens on, not above `most`. */
export async function freePort(most = 65_535): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port <= most ? port : freePort(most)
}
