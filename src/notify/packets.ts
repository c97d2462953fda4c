export type Qos = 0 | 1 | 2

export interface Publish {
  topic: string
  payload: string
  qos: Qos
  retain: boolean
  /** What it is acknowledged by; only with QoS 1 and 2. */
  id: number
  /** Of MQTT 5: ASCII as it goes over the wire, maybe empty; null in 3.1.1. */
  properties: string | null
}

/** A part of the memory: where it begins, and where the next one may. */
export interface Piece {
  start: number
  end: number
}

const PUBLISH = 0x30
const RETAIN = 1
const FIRST_BYTES = 256 * 1024
/** What has grown beyond is given back after its use. */
const KEPT_BYTES_MAX = 4 * 1024 * 1024
/** Kind and length. */
const HEAD_BYTES_MAX = 5

/**
 * PUBLISH packets one after the other in one piece of memory, so that a thousand of them are one write: a buffer for
 * each cost ten times as much. When it was written it can be cleared and used again: fresh memory for each page cost as
 * much as filling it.
 */
export class Packets {
  #bytes = Buffer.allocUnsafeSlow(FIRST_BYTES)
  #length = 0

  get length(): number {
    return this.#length
  }

  clear(): void {
    this.#length = 0
    if (this.#bytes.length > KEPT_BYTES_MAX) this.#bytes = Buffer.allocUnsafeSlow(FIRST_BYTES)
  }

  /** Not a copy: valid until the next one is added or all are cleared. */
  bytesOf({ start, end }: Piece): Buffer {
    return this.#bytes.subarray(start, end)
  }

  /** Returns where it stands. */
  add(publish: Publish): Piece {
    const start = this.#length
    const { topic, payload, qos, retain, id, properties } = publish
    const topicBytes = Buffer.byteLength(topic)
    const left = bytesAfterHead(publish, topicBytes)
    this.#reserve(HEAD_BYTES_MAX + left)
    this.#byte(PUBLISH | (qos << 1) | (retain ? RETAIN : 0))
    this.#size(left)
    this.#byte(topicBytes >> 8)
    this.#byte(topicBytes & 255)
    this.#length += this.#bytes.write(topic, this.#length)
    if (qos > 0) {
      this.#byte(id >> 8)
      this.#byte(id & 255)
    }
    if (properties !== null) {
      this.#size(properties.length)
      this.#length += this.#bytes.write(properties, this.#length, 'latin1')
    }
    this.#length += this.#bytes.write(payload, this.#length)
    return { start, end: this.#length }
  }

  #byte(value: number): void {
    this.#bytes[this.#length++] = value
  }

  /** Groups of seven bits, the lowest first; all but the last one have the eighth bit set. */
  #size(value: number): void {
    for (let left = value; ; left >>= 7) {
      this.#byte(left > 127 ? (left & 127) | 128 : left)
      if (left <= 127) return
    }
  }

  #reserve(bytes: number): void {
    const needed = this.#length + bytes
    if (needed <= this.#bytes.length) return
    const grown = Buffer.allocUnsafeSlow(Math.max(needed, this.#bytes.length * 2))
    this.#bytes.copy(grown, 0, 0, this.#length)
    this.#bytes = grown
  }
}

/** How long its packet is. */
export function publishBytes(publish: Publish): number {
  const left = bytesAfterHead(publish, Buffer.byteLength(publish.topic))
  return 1 + lengthBytes(left) + left
}

function bytesAfterHead({ payload, qos, properties }: Publish, topicBytes: number): number {
  const about = properties === null ? 0 : lengthBytes(properties.length) + properties.length
  return 2 + topicBytes + (qos > 0 ? 2 : 0) + about + Buffer.byteLength(payload)
}

function lengthBytes(value: number): number {
  return value < 128 ? 1 : 1 + lengthBytes(value >> 7)
}

/** Hands over each whole packet: its first byte, and what follows its length. Returns what is left of the last one. */
export function takePackets(data: Buffer, onPacket: (head: number, body: Buffer) => void): Buffer {
  let at = 0
  while (at < data.length) {
    let length = 0
    let start = at + 1
    for (let shift = 0; ; shift += 7, start++) {
      if (start >= data.length) return data.subarray(at)
      length |= (data[start]! & 127) << shift
      if (data[start]! < 128) break
    }
    const end = start + 1 + length
    if (end > data.length) return data.subarray(at)
    onPacket(data[at]!, data.subarray(start + 1, end))
    at = end
  }
  return data.subarray(at)
}
