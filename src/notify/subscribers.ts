import type { Client } from 'aedes'
import { fits, type Message } from './topics.ts'

type Qos = 0 | 1 | 2

/**
 * Who hears what in the embedded broker. A page of messages goes to a subscriber in one write: Aedes alone would match,
 * wrap and write each of them for itself, which took more than half of what the process could do. Subscribers that
 * want acknowledgements get theirs through Aedes.
 */
export class Subscribers {
  readonly #filters = new Map<Client, Map<string, Qos>>()
  /** Filters without wildcards by their topic: a thousand pages that each watch one task cost no more than one. */
  readonly #exact = new Map<string, Set<Client>>()
  readonly #wild = new Set<Client>()
  readonly #drainMs: number

  /** @param drainMs who takes nothing for so long is cut off */
  constructor(drainMs: number) {
    this.#drainMs = drainMs
  }

  get isEmpty(): boolean {
    return this.#filters.size === 0
  }

  countOf(client: Client): number {
    return this.#filters.get(client)?.size ?? 0
  }

  add(client: Client, filter: string, qos: Qos): void {
    const filters = this.#filters.get(client) ?? new Map<string, Qos>()
    this.#filters.set(client, filters.set(filter, qos))
    if (isWild(filter)) this.#wild.add(client)
    else this.#exact.set(filter, (this.#exact.get(filter) ?? new Set()).add(client))
  }

  remove(client: Client, filter: string): void {
    const filters = this.#filters.get(client)
    if (!filters?.delete(filter)) return
    const clients = this.#exact.get(filter)
    clients?.delete(client)
    if (clients?.size === 0) this.#exact.delete(filter)
    if (![...filters.keys()].some(isWild)) this.#wild.delete(client)
    if (filters.size === 0) this.#filters.delete(client)
  }

  forget(client: Client): void {
    for (const filter of [...(this.#filters.get(client)?.keys() ?? [])]) this.remove(client, filter)
  }

  isHeard(topic: string): boolean {
    return this.#hearers(topic).size > 0
  }

  /** Resolves when every subscriber has taken what was for it, or was cut off: reading goes no faster than they do. */
  async deliver(messages: readonly Message[], qosMax: Qos, passes: (client: Client, message: Message) => boolean) {
    const writes = new Map<Client, Buffer[]>()
    const acknowledged: Promise<void>[] = []
    for (const message of messages) {
      const { topic, payload } = message
      let bytes: Buffer | undefined
      for (const [client, wanted] of this.#hearers(topic)) {
        const qos = Math.min(qosMax, wanted) as Qos
        if (!passes(client, message)) continue
        if (qos > 0) {
          const packet = { cmd: 'publish', topic, payload, qos, retain: false, dup: false } as const
          acknowledged.push(new Promise((resolve) => client.publish(packet, () => resolve())))
          continue
        }
        bytes ??= publishPacket(topic, payload)
        const own = writes.get(client)
        if (own) own.push(bytes)
        else writes.set(client, [bytes])
      }
    }
    const drained = [...writes].map(([client, parts]) => this.#write(client, Buffer.concat(parts)))
    await Promise.all([...acknowledged, ...drained])
  }

  /** Each client once, with the highest quality of service of its filters that fit. */
  #hearers(topic: string): Map<Client, Qos> {
    const hearers = new Map<Client, Qos>()
    for (const client of this.#exact.get(topic) ?? []) hearers.set(client, this.#filters.get(client)!.get(topic)!)
    for (const client of this.#wild) {
      for (const [filter, qos] of this.#filters.get(client)!) {
        if (isWild(filter) && fits(filter, topic) && qos >= (hearers.get(client) ?? 0)) hearers.set(client, qos)
      }
    }
    return hearers
  }

  async #write(client: Client, bytes: Buffer): Promise<void> {
    const { conn } = client
    if (conn.destroyed || conn.write(bytes)) return
    await new Promise<void>((resolve) => {
      const done = () => {
        clearTimeout(late)
        conn.off('drain', done).off('close', done)
        resolve()
      }
      const late = setTimeout(() => conn.destroy(new Error('it takes nothing')), this.#drainMs)
      conn.on('drain', done).on('close', done)
    })
  }
}

function isWild(filter: string): boolean {
  return filter.includes('+') || filter.includes('#')
}

/** A PUBLISH with QoS 0: kind, length in groups of seven bits, topic, payload. */
function publishPacket(topic: string, payload: string): Buffer {
  const topicBytes = Buffer.byteLength(topic)
  const length = 2 + topicBytes + Buffer.byteLength(payload)
  const lengthBytes: number[] = []
  for (let left = length; ; left >>= 7) {
    lengthBytes.push(left > 127 ? (left & 127) | 128 : left)
    if (left <= 127) break
  }
  const packet = Buffer.allocUnsafe(1 + lengthBytes.length + length)
  packet.set([0x30, ...lengthBytes])
  const start = 1 + lengthBytes.length
  packet.writeUInt16BE(topicBytes, start)
  packet.write(topic, start + 2)
  packet.write(payload, start + 2 + topicBytes)
  return packet
}
