export type Qos = 0 | 1 | 2

export interface Publish {
  topic: string
  payload: string | Buffer
  qos: Qos
  /** What it is acknowledged by; only with QoS 1 and 2. */
  id: number
  /** Whether it is a state from before the subscription. */
  retain?: boolean
}

/** A part of the memory: where it begins, and where the next one may. */
export interface Piece {
  start: number
  end: number
}

const PUBLISH = 0x30
const FIRST_BYTES = 256 * 1024
/** What has grown beyond is given back after its use. */
const KEPT_BYTES_MAX = 4 * 1024 * 1024
/** Kind and length. */
const HEAD_BYTES_MAX = 5

/**
 * PUBLISH packets of MQTT 3.1.1 one after the other in one piece of memory, so that a thousand of them are one write: a
 * buffer for each cost ten times as much. When it was written it can be cleared and used again: fresh memory for each
 * page cost as much as filling it.
 */
export class Packets {
  readonly #firstBytes: number
  #bytes: Buffer
  #length = 0

  constructor(firstBytes = FIRST_BYTES) {
    this.#firstBytes = firstBytes
    this.#bytes = Buffer.allocUnsafeSlow(firstBytes)
  }

  get length(): number {
    return this.#length
  }

  clear(): void {
    this.#length = 0
    if (this.#bytes.length > KEPT_BYTES_MAX) this.#bytes = Buffer.allocUnsafeSlow(this.#firstBytes)
  }

  /** Not a copy: valid until the next one is added or all are cleared. */
  bytesOf({ start, end }: Piece): Buffer {
    return this.#bytes.subarray(start, end)
  }

  /** Returns its position. */
  add({ topic, payload, qos, id, retain }: Publish): Piece {
    const start = this.#length
    const topicBytes = Buffer.byteLength(topic)
    const left = 2 + topicBytes + (qos > 0 ? 2 : 0) + Buffer.byteLength(payload)
    this.#reserve(HEAD_BYTES_MAX + left)
    this.#byte(PUBLISH | (qos << 1) | Number(retain === true))
    this.#size(left)
    this.#byte(topicBytes >> 8)
    this.#byte(topicBytes & 255)
    this.#length += this.#bytes.write(topic, this.#length)
    if (qos > 0) {
      this.#byte(id >> 8)
      this.#byte(id & 255)
    }
    this.#length +=
      typeof payload === 'string' ? this.#bytes.write(payload, this.#length) : payload.copy(this.#bytes, this.#length)
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
