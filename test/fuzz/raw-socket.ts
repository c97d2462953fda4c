import { randomBytes } from 'node:crypto'
import { connect, type Socket } from 'node:net'

/** The longest time for a server to answer or close before the next input. */
const PATIENCE_MS = 2_000

/** Sends bytes unchanged, optionally ends its side, and returns the bytes received until the connection closes. */
export async function exchange(port: number, sent: readonly (Buffer | string)[], isAll = true): Promise<string> {
  const socket = await open(port)
  const chunks: Buffer[] = []
  socket.on('data', (chunk: Buffer) => chunks.push(chunk))
  const closed = closeOf(socket)
  const timer = setTimeout(() => socket.destroy(), PATIENCE_MS)
  for (const part of sent) socket.write(part)
  if (isAll) socket.end()
  await closed
  clearTimeout(timer)
  return Buffer.concat(chunks).toString('latin1')
}

/**
 * The same over HTTP, where a client that has no more to say is not answered any more: the last request asks for the
 * connection to be closed. It is long enough to be eaten by what was before it, should that lack some bytes.
 */
export function ask(port: number, sent: Buffer | string): Promise<string> {
  const last = `GET /api/v1/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX: ${'x'.repeat(500)}\r\n\r\n`
  return exchange(port, [sent, last], false)
}

export function closeOf(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    if (socket.destroyed) resolve()
    else socket.once('close', () => resolve())
  })
}

/** A connection whose errors are expected: it may be closed at any moment. */
export async function open(port: number): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1' })
  socket.on('error', () => socket.destroy())
  await Promise.race([new Promise<void>((resolve) => socket.once('connect', () => resolve())), closeOf(socket)])
  return socket
}

/** The statuses of the received answers. */
export function statusesOf(answer: string): number[] {
  return [...answer.matchAll(/HTTP\/1\.1 (\d{3})/g)].map(([, status]) => Number(status))
}

/** The request that opens a WebSocket at /mqtt, as the holder of a key does. */
export function upgrade(key: string, more: Record<string, string> = {}): string {
  const headers = {
    Host: 'localhost',
    Upgrade: 'websocket',
    Connection: 'Upgrade',
    'Sec-WebSocket-Key': randomBytes(16).toString('base64'),
    'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Protocol': 'mqtt',
    Authorization: `Bearer ${key}`,
    ...more,
  }
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  return `GET /mqtt HTTP/1.1\r\n${lines.join('')}\r\n`
}

/** A WebSocket frame; every part of it may be invalid. */
export function frame(
  opcode: number,
  payload: Buffer | string,
  { fin = true, rsv = 0, masked = true, length = -1n } = {},
) {
  const body = Buffer.from(payload)
  const head = Buffer.from([(fin ? 0x80 : 0) | (rsv << 4) | opcode, masked ? 0x80 : 0])
  const size = length < 0n ? BigInt(body.length) : length
  let extended = Buffer.alloc(0)
  if (size < 126n) head[1]! |= Number(size)
  else if (size < 65_536n) {
    head[1]! |= 126
    extended = Buffer.alloc(2)
    extended.writeUInt16BE(Number(size))
  } else {
    head[1]! |= 127
    extended = Buffer.alloc(8)
    extended.writeBigUInt64BE(size)
  }
  const mask = masked ? randomBytes(4) : Buffer.alloc(0)
  const shown = masked ? body.map((byte, at) => byte ^ mask[at % 4]!) : body
  return Buffer.concat([head, extended, mask, shown])
}

const text = (value: string) =>
  Buffer.concat([Buffer.from([value.length >> 8, value.length & 255]), Buffer.from(value)])

/** An MQTT packet of a kind (the first byte); `length` is its declared length. */
export function packet(kind: number, ...parts: Buffer[]): Buffer {
  const body = Buffer.concat(parts)
  return Buffer.concat([Buffer.from([kind]), lengthOf(body.length), body])
}

/** The remaining length as MQTT writes it. */
export function lengthOf(length: number): Buffer {
  const bytes: number[] = []
  for (let rest = length; rest > 0 || bytes.length === 0; rest = Math.floor(rest / 128)) {
    bytes.push((rest % 128) | (rest >= 128 ? 128 : 0))
  }
  return Buffer.from(bytes)
}

/** A valid packet of every kind that a client sends. */
export function packets(key: string): Record<string, Buffer> {
  const id = Buffer.from([0, 7])
  const header = Buffer.from([0, 4, ...Buffer.from('MQTT'), 4])
  const connectFlags = Buffer.from([0xc2, 0, 60])
  return {
    connect: packet(0x10, header, connectFlags, text(`fuzz-${randomBytes(4).toString('hex')}`), text('key'), text(key)),
    withWill: packet(
      0x10,
      header,
      Buffer.from([0xc6, 0, 60]),
      text('w'),
      text('xqueue/x'),
      text('gone'),
      text('key'),
      text(key),
    ),
    subscribe: packet(0x82, id, text('xqueue/tasks/+'), Buffer.from([1])),
    subscribeAll: packet(0x82, id, text('xqueue/#'), Buffer.from([2]), text('$SYS/#'), Buffer.from([0])),
    unsubscribe: packet(0xa2, id, text('xqueue/tasks/+')),
    publish: packet(0x32, text('xqueue/tasks/x'), id, Buffer.from('{}')),
    publishTwice: packet(0x34, text('xqueue/x'), id, Buffer.from('x')),
    puback: packet(0x40, id),
    pubrec: packet(0x50, id),
    pubrel: packet(0x62, id),
    pubcomp: packet(0x70, id),
    ping: packet(0xc0),
    disconnect: packet(0xe0),
  }
}
