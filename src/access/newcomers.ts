import type { Socket } from 'node:net'

interface Newcomer {
  socket: Socket
  address: string
  /** Time-out of the TLS handshake. */
  handshake: NodeJS.Timeout | undefined
  hasAsked: boolean
}

export interface NewcomersOptions {
  isBounded?: boolean
  max?: number
  handshakeMs: number
}

const NEWCOMERS_MAX = 2_000

/**
 * Connections of unauthenticated clients, over all ports of a process. Any client can open these, so their number and
 * the time of their TLS handshakes are bounded. Above the bound, the address with the most connections loses its
 * oldest.
 *
 * A connection is identified by its addresses and ports, because with TLS a request has another socket object.
 */
export class Newcomers {
  readonly #byEnds = new Map<string, Newcomer>()
  readonly #byAddress = new Map<string, Set<Newcomer>>()
  readonly #max: number
  readonly #handshakeMs: number
  #isTrimming = false

  /** @param isBounded false without access control, where every client is known */
  constructor({ isBounded = true, max = NEWCOMERS_MAX, handshakeMs }: NewcomersOptions) {
    this.#max = isBounded ? max : Number.POSITIVE_INFINITY
    this.#handshakeMs = handshakeMs
  }

  /** A connection was opened. @param hasTls its handshake must end in time */
  add(socket: Socket, hasTls: boolean): void {
    const ends = endsOf(socket)
    const address = socket.remoteAddress ?? ''
    const handshake = hasTls ? setTimeout(() => socket.destroy(), this.#handshakeMs).unref() : undefined
    const newcomer: Newcomer = { socket, address, handshake, hasAsked: false }
    this.#byEnds.set(ends, newcomer)
    const others = this.#byAddress.get(address) ?? new Set()
    this.#byAddress.set(address, others.add(newcomer))
    socket.once('close', () => this.#forget(ends, newcomer))
    if (this.#byEnds.size > this.#max && !this.#isTrimming) this.#trimSoon()
  }

  /** Its TLS handshake has ended. */
  secured(socket: Socket): void {
    clearTimeout(this.#byEnds.get(endsOf(socket))?.handshake)
  }

  /** A request arrived, not yet from an authenticated client. */
  asked(socket: Socket): void {
    const newcomer = this.#byEnds.get(endsOf(socket))
    if (newcomer) newcomer.hasAsked = true
  }

  /** Its client is authenticated. */
  admit(socket: Socket): void {
    const ends = endsOf(socket)
    const newcomer = this.#byEnds.get(ends)
    if (newcomer) this.#forget(ends, newcomer)
  }

  /** Closes connections without a request, because Node counts them as busy and would wait for them. */
  closeUnused(): void {
    for (const { socket, hasAsked } of [...this.#byEnds.values()]) if (!hasAsked) socket.destroy()
  }

  /**
   * After the next pass of the event loop, which reads the requests that many new connections have sent already: their
   * clients may be known.
   */
  #trimSoon(): void {
    this.#isTrimming = true
    const trim = () => {
      this.#isTrimming = false
      while (this.#byEnds.size > this.#max) this.#dropOne()
    }
    setImmediate(() => setImmediate(trim))
  }

  #forget(ends: string, newcomer: Newcomer): void {
    clearTimeout(newcomer.handshake)
    if (this.#byEnds.get(ends) === newcomer) this.#byEnds.delete(ends)
    const others = this.#byAddress.get(newcomer.address)
    others?.delete(newcomer)
    if (others?.size === 0) this.#byAddress.delete(newcomer.address)
  }

  #dropOne(): void {
    let most: Set<Newcomer> = new Set()
    for (const newcomers of this.#byAddress.values()) if (newcomers.size > most.size) most = newcomers
    const [oldest] = most
    if (!oldest) return
    this.#forget(endsOf(oldest.socket), oldest)
    oldest.socket.destroy()
  }
}

function endsOf({ remoteAddress, remotePort, localPort }: Socket): string {
  return `${remoteAddress} ${remotePort} ${localPort}`
}
