import { once } from 'node:events'
import { createServer, connect as dial, type Socket } from 'node:net'

export interface TcpProxy {
  port: number
  /** Cuts all connections, and takes no more until `mend`. */
  cut(): void
  /** Connections stay open and take everything, but nothing comes through, either way; new ones as well. */
  swallow(): void
  /** What comes through comes so much later. */
  delay(ms: number): void
  /** No more bytes than this come through in a second, each way of each connection. */
  throttle(bytesPerSecond: number): void
  /** As at the start. */
  mend(): void
  stop(): Promise<void>
}

/** A network of the tests' own in front of a port on the loopback address, that can fail like a real one. */
export async function startProxy(to: number): Promise<TcpProxy> {
  const sockets = new Set<Socket>()
  let state: 'through' | 'cut' | 'swallow' = 'through'
  let delayMs = 0
  let bytesPerSecond = Number.POSITIVE_INFINITY

  const pump = (from: Socket, into: Socket) => {
    let freeAt = 0
    let dueAt = 0
    const waiting: Buffer[] = []
    from.on('data', (chunk) => {
      if (state !== 'through') return
      const now = performance.now()
      freeAt = Math.max(freeAt, now) + (chunk.length / bytesPerSecond) * 1_000
      // Nothing overtakes what came before it, also when the network gets faster: a stream keeps its order.
      waiting.push(chunk)
      dueAt = Math.max(dueAt, freeAt + delayMs)
      const write = () => {
        const next = waiting.shift()
        if (state === 'through' && into.writable) into.write(next!)
      }
      if (dueAt <= now && waiting.length === 1) write()
      else setTimeout(write, Math.max(dueAt - now, 0))
    })
    from.once('close', () => {
      sockets.delete(from)
      // Who is behind a silent network does not hear of the end.
      if (state !== 'swallow') into.destroy()
    })
    from.on('error', () => undefined) // 'close' follows.
  }
  const server = createServer((client) => {
    if (state === 'cut') {
      client.destroy()
      return
    }
    const behind = dial(to, '127.0.0.1')
    for (const socket of [client, behind]) {
      sockets.add(socket)
      socket.setNoDelay()
    }
    pump(client, behind)
    pump(behind, client)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const end = () => {
    for (const socket of sockets) socket.destroy()
  }

  return {
    port: (server.address() as { port: number }).port,
    cut: () => {
      state = 'cut'
      end()
    },
    swallow: () => {
      state = 'swallow'
    },
    delay: (ms) => {
      delayMs = ms
    },
    throttle: (limit) => {
      bytesPerSecond = limit
    },
    mend: () => {
      // What was silent lost bytes: it can only end.
      if (state !== 'through') end()
      state = 'through'
      delayMs = 0
      bytesPerSecond = Number.POSITIVE_INFINITY
    },
    stop: async () => {
      end()
      server.close()
      await once(server, 'close')
    },
  }
}
