/** Above the length of a lease token, `<uuid>.<fence>`. */
const TOKEN_BYTES_MAX = 126
const SLOT_BYTES = TOKEN_BYTES_MAX + 2

/**
 * The leases of running tasks, in memory shared with the renewal thread: starting and ending an attempt needs no
 * message, and the thread sees them while the handlers' event loop is blocked. A slot is a length, then the token. The
 * length is cleared first and set last, so a half-written slot reads as empty or as an invalid token.
 */
export class SharedLeases {
  readonly memory: SharedArrayBuffer
  readonly #bytes: Uint8Array
  readonly #free: number[]
  readonly #encoder = new TextEncoder()

  constructor(slots: number) {
    this.memory = new SharedArrayBuffer(slots * SLOT_BYTES)
    this.#bytes = new Uint8Array(this.memory)
    this.#free = Array.from({ length: slots }, (_, slot) => slots - 1 - slot)
  }

  /** Adds a token; returns its slot. */
  add(token: string): number {
    const slot = this.#free.pop()
    if (slot === undefined) throw new Error('the shared leases are full')
    const at = slot * SLOT_BYTES
    const { read, written } = this.#encoder.encodeInto(token, this.#bytes.subarray(at + 1, at + 1 + TOKEN_BYTES_MAX))
    if (read !== token.length) throw new Error(`a lease token is longer than ${TOKEN_BYTES_MAX} bytes`)
    Atomics.store(this.#bytes, at, written)
    return slot
  }

  remove(slot: number): void {
    Atomics.store(this.#bytes, slot * SLOT_BYTES, 0)
    this.#free.push(slot)
  }
}

/** Reads the shared leases from another thread. */
export function tokensOn(memory: SharedArrayBuffer): string[] {
  const bytes = new Uint8Array(memory)
  const tokens: string[] = []
  for (let at = 0; at < bytes.length; at += SLOT_BYTES) {
    const length = Atomics.load(bytes, at)
    if (length > 0) tokens.push(Buffer.from(bytes.slice(at + 1, at + 1 + length)).toString())
  }
  return tokens
}
