/**
 * The part of MQTT 3.1.1 that a subscribing page needs: connect, subscribe with QoS 0, receive messages, keep alive. A
 * complete client would be two thirds of the page's size.
 */
export interface Listening {
  onOpen: () => void
  onMessage: (topic: string, payload: Uint8Array) => void
  /** Once, however it ended. */
  onClose: () => void
}

const CONNECT = 0x10
const CONNACK = 2
const PUBLISH = 3
const SUBSCRIBE = 0x82
const SUBACK = 9
const PINGREQ = new Uint8Array([0xc0, 0])
const KEEPALIVE_S = 30
const OPEN_MS_MAX = 5_000

/** Connects and subscribes; the returned function disconnects. */
export function listen(url: string, filters: readonly string[], { onOpen, onMessage, onClose }: Listening): () => void {
  const socket = new WebSocket(url, 'mqtt')
  socket.binaryType = 'arraybuffer'
  let rest = new Uint8Array()
  let heardAt = Date.now()
  let closed = false
  const close = () => {
    if (closed) return
    closed = true
    clearInterval(alive)
    clearTimeout(late)
    socket.close()
    onClose()
  }
  const late = setTimeout(close, OPEN_MS_MAX)
  const alive = setInterval(() => {
    if (Date.now() - heardAt > KEEPALIVE_S * 1_500) close()
    else if (socket.readyState === WebSocket.OPEN) socket.send(PINGREQ)
  }, KEEPALIVE_S * 500)
  socket.onopen = () => socket.send(packet(CONNECT, connectBody(`page-${Math.random().toString(36).slice(2, 14)}`)))
  socket.onclose = close
  socket.onerror = close
  socket.onmessage = ({ data }) => {
    if (closed) return
    heardAt = Date.now()
    rest = take(joined(rest, new Uint8Array(data as ArrayBuffer)), (kind, flags, body) => {
      if (kind === CONNACK) {
        if (body[1] !== 0) return close()
        socket.send(packet(SUBSCRIBE, subscribeBody(filters)))
      } else if (kind === SUBACK) {
        if (body.subarray(2).includes(0x80)) return close()
        clearTimeout(late)
        onOpen()
      } else if (kind === PUBLISH) {
        const end = 2 + body[0]! * 256 + body[1]!
        // All subscriptions have QoS 0, so there is no packet id between topic and payload.
        onMessage(text.decode(body.subarray(2, end)), body.subarray(flags & 6 ? end + 2 : end))
      }
    })
  }
  return close
}

const text = new TextDecoder()
const bytes = new TextEncoder()

/** Hands over each whole packet; returns what is left of the last one. */
function take(
  data: Uint8Array<ArrayBuffer>,
  onPacket: (kind: number, flags: number, body: Uint8Array) => void,
): Uint8Array<ArrayBuffer> {
  let at = 0
  while (at < data.length) {
    let length = 0
    let start = at + 1
    for (let factor = 1; ; factor *= 128, start++) {
      if (start >= data.length) return data.slice(at)
      length += (data[start]! & 127) * factor
      if (data[start]! < 128) break
    }
    start += 1
    if (start + length > data.length) return data.slice(at)
    onPacket(data[at]! >> 4, data[at]! & 15, data.subarray(start, start + length))
    at = start + length
  }
  return new Uint8Array()
}

function joined(a: Uint8Array<ArrayBuffer>, b: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  if (a.length === 0) return b
  const both = new Uint8Array(a.length + b.length)
  both.set(a)
  both.set(b, a.length)
  return both
}

function packet(head: number, body: number[]): Uint8Array<ArrayBuffer> {
  const length: number[] = []
  for (let left = body.length; ; left = left >> 7) {
    length.push(left > 127 ? (left & 127) | 128 : left)
    if (left <= 127) return new Uint8Array([head, ...length, ...body])
  }
}

function connectBody(clientId: string): number[] {
  return [...string('MQTT'), 4, 2, KEEPALIVE_S >> 8, KEEPALIVE_S & 255, ...string(clientId)]
}

function subscribeBody(filters: readonly string[]): number[] {
  return [0, 1, ...filters.flatMap((filter) => [...string(filter), 0])]
}

function string(value: string): number[] {
  const encoded = bytes.encode(value)
  return [encoded.length >> 8, encoded.length & 255, ...encoded]
}
