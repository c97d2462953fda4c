import type { Socket } from 'node:net'

interface Newcomer {
  socket: Socket
  address: string
  /** Until the TLS handshake has ended. */
  handshake: NodeJS.Timeout | undefined
  hasAsked: boolean
}

const NEWCOMERS_MAX = 2_000

/**
 * Connections whose clients have not yet shown who they are, over all ports of a process. Anybody can open these, so
 * they are bounded in number, and their TLS handshakes in time. Where there are too many, the address that has most of
 * them loses its oldest.
 *
 * A connection is told by its ends: with TLS, a request knows another socket than the one that was connected.
 */
export class Newcomers {
  readonly #byEnds = new Map<string, Newcomer>()
  readonly #byAddress = new Map<string, Set<Newcomer>>()
  readonly #max: number
  readonly #handshakeMs: number

  constructor({ max = NEWCOMERS_MAX, handshakeMs }: { max?: number; handshakeMs: number }) {
    this.#max = max
    this.#handshakeMs = handshakeMs
  }

  /** A connection was opened. @param hasTls it must end its handshake in time, however it drips */
  add(socket: Socket, hasTls: boolean): void {
    const ends = endsOf(socket)
    const address = socket.remoteAddress ?? ''
    const handshake = hasTls ? setTimeout(() => socket.destroy(), this.#handshakeMs).unref() : undefined
    const newcomer: Newcomer = { socket, address, handshake, hasAsked: false }
    this.#byEnds.set(ends, newcomer)
    const others = this.#byAddress.get(address) ?? new Set()
    this.#byAddress.set(address, others.add(newcomer))
    socket.once('close', () => this.#forget(ends, newcomer))
    if (this.#byEnds.size > this.#max) this.#dropOne()
  }

  /** Its TLS handshake has ended. */
  secured(socket: Socket): void {
    clearTimeout(this.#byEnds.get(endsOf(socket))?.handshake)
  }

  /** Something was asked over it, if not yet by somebody known. */
  asked(socket: Socket): void {
    const newcomer = this.#byEnds.get(endsOf(socket))
    if (newcomer) newcomer.hasAsked = true
  }

  /** Its client has shown who it is. */
  admit(socket: Socket): void {
    const ends = endsOf(socket)
    const newcomer = this.#byEnds.get(ends)
    if (newcomer) this.#forget(ends, newcomer)
  }

  /** Closes those over which nothing was asked: Node takes them for busy, and would wait for them. */
  closeUnused(): void {
    for (const { socket, hasAsked } of [...this.#byEnds.values()]) if (!hasAsked) socket.destroy()
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
