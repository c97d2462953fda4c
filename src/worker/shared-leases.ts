import type { HandlerLease } from './handler.ts'

/** Above the length of a lease token, `<uuid>.<fence>`. */
const TOKEN_BYTES_MAX = 119
/** The end of the lease, the length of its token, the token. */
const TOKEN_AT = 9
const SLOT_BYTES = TOKEN_AT + TOKEN_BYTES_MAX

/**
 * The leases of running tasks, in memory shared with the renewal thread and with isolated handlers: starting and ending
 * an attempt needs no message, and the thread sees them while the handlers' event loop is blocked. The length is
 * cleared first and set last, so a half-written slot reads as empty or as an invalid token.
 */
export class SharedLeases {
  readonly memory: SharedArrayBuffer
  readonly #bytes: Uint8Array
  readonly #ends: BigInt64Array
  readonly #free: number[]
  readonly #encoder = new TextEncoder()

  constructor(slots: number) {
    this.memory = new SharedArrayBuffer(slots * SLOT_BYTES)
    this.#bytes = new Uint8Array(this.memory)
    this.#ends = new BigInt64Array(this.memory)
    this.#free = Array.from({ length: slots }, (_, slot) => slots - 1 - slot)
  }

  /** Adds a token; returns its slot. */
  add(token: string, expiresAt: number): number {
    const slot = this.#free.pop()
    if (slot === undefined) throw new Error('the shared leases are full')
    const at = slot * SLOT_BYTES
    const from = at + TOKEN_AT
    const { read, written } = this.#encoder.encodeInto(token, this.#bytes.subarray(from, from + TOKEN_BYTES_MAX))
    if (read !== token.length) throw new Error(`a lease token is longer than ${TOKEN_BYTES_MAX} bytes`)
    setEnd(this.#ends, slot, expiresAt)
    Atomics.store(this.#bytes, at + TOKEN_AT - 1, written)
    return slot
  }

  remove(slot: number): void {
    Atomics.store(this.#bytes, slot * SLOT_BYTES + TOKEN_AT - 1, 0)
    this.#free.push(slot)
  }
}

export interface SharedLease {
  slot: number
  lease: string
}

/** The place of a lease in shared memory, for another thread. */
export interface SharedHold {
  fence: number
  memory: SharedArrayBuffer
  place: SharedLease
}

/** The lease of an attempt as its handler sees it, in any thread: without the token, which is a secret. */
export class HeldLease implements HandlerLease {
  readonly #hold: SharedHold
  readonly #now: () => number

  constructor(hold: SharedHold, now: () => number) {
    this.#hold = hold
    this.#now = now
  }

  get fence(): number {
    return this.#hold.fence
  }

  isHeld(): boolean {
    return isHeldOn(this.#hold.memory, this.#hold.place, this.#now())
  }

  /** What another thread needs to make the same. */
  static sharedBy(lease: HandlerLease): SharedHold {
    return (lease as HeldLease).#hold
  }
}

/** Reads the shared leases from another thread. */
export function leasesOn(memory: SharedArrayBuffer): SharedLease[] {
  const leases: SharedLease[] = []
  for (let slot = 0; slot * SLOT_BYTES < memory.byteLength; slot++) {
    const lease = leaseIn(memory, slot)
    if (lease !== '') leases.push({ slot, lease })
  }
  return leases
}

/** Notes the end of a renewed lease, unless its attempt has ended meanwhile. */
export function extend(memory: SharedArrayBuffer, { slot, lease }: SharedLease, expiresAt: number): void {
  if (leaseIn(memory, slot) === lease) setEnd(new BigInt64Array(memory), slot, expiresAt)
}

/** Whether an attempt still has its lease, as far as this process knows. Also while its event loop was blocked. */
export function isHeldOn(memory: SharedArrayBuffer, { slot, lease }: SharedLease, now: number): boolean {
  const endsAt = Number(Atomics.load(new BigInt64Array(memory), (slot * SLOT_BYTES) / 8))
  return now < endsAt && leaseIn(memory, slot) === lease
}

function setEnd(ends: BigInt64Array, slot: number, expiresAt: number): void {
  Atomics.store(ends, (slot * SLOT_BYTES) / 8, BigInt(Math.floor(expiresAt)))
}

function leaseIn(memory: SharedArrayBuffer, slot: number): string {
  const bytes = new Uint8Array(memory, slot * SLOT_BYTES, SLOT_BYTES)
  const length = Atomics.load(bytes, TOKEN_AT - 1)
  return length === 0 ? '' : Buffer.from(bytes.slice(TOKEN_AT, TOKEN_AT + length)).toString()
}
