import type { Client } from 'aedes'
import type { Followed } from './log-follower.ts'
import { Packets, type Piece, type Publish, type Qos } from './packets.ts'
import type { State } from './snapshots.ts'
import { fits, type Message } from './topics.ts'

/** Number of topic shapes with cached subscribers. */
const SHAPES_MAX = 10_000
/** States go to a client in writes of about this size: what systems take at once. */
const CHUNK_BYTES = 32 * 1024
const STATES_MS_MAX = 60_000
/** A packet's number has two bytes, and is not zero. */
const IDS = 65_535

/** The subscribers of a shape: by wildcards over all its topics, and by wildcards with one id. */
interface WildHearers {
  all: Map<Client, Qos>
  some: [client: Client, filter: string, qos: Qos][]
}

/**
 * The subscriptions of the embedded broker. A page of messages goes to a subscriber in one write: Aedes would match,
 * wrap and write each message separately, which took more than half of the process's CPU time. Sent messages are not
 * kept until their acknowledgement, because without sessions they are never sent again.
 */
export class Subscribers {
  readonly #filters = new Map<Client, Map<string, Qos>>()
  /** Filters without wildcards by their topic: a thousand pages that each watch one task cost no more than one. */
  readonly #exact = new Map<string, Set<Client>>()
  readonly #wild = new Set<Client>()
  /** Tasks whose log a filter names, with the number of the latest subscription to it. */
  readonly #followed = new Map<string, number>()
  #subscriptions = 0
  readonly #loggedTaskOf: (filter: string) => string | null
  /** Forgotten with each change of a wildcard. */
  readonly #shapes = new Map<string, WildHearers>()
  /** What the last packet to each client that is acknowledged was numbered with. */
  readonly #lastIds = new WeakMap<Client, number>()
  readonly #drainMs: number
  /** Memory of pages that were written. */
  readonly #free: Packets[] = []

  /**
   * @param drainMs time after which a client that reads nothing is disconnected
   * @param loggedTaskOf the task whose log a filter names
   */
  constructor(drainMs: number, loggedTaskOf: (filter: string) => string | null) {
    this.#drainMs = drainMs
    this.#loggedTaskOf = loggedTaskOf
  }

  get clients(): Iterable<Client> {
    return this.#filters.keys()
  }

  get followed(): Followed {
    return this.#followed
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
    this.#shapes.clear()
    if (isWild(filter)) this.#wild.add(client)
    else this.#exact.set(filter, (this.#exact.get(filter) ?? new Set()).add(client))
    const task = this.#loggedTaskOf(filter)
    if (task) this.#followed.set(task, ++this.#subscriptions)
  }

  remove(client: Client, filter: string): void {
    const filters = this.#filters.get(client)
    if (!filters?.delete(filter)) return
    this.#shapes.clear()
    const clients = this.#exact.get(filter)
    clients?.delete(client)
    if (clients?.size === 0) {
      this.#exact.delete(filter)
      const task = this.#loggedTaskOf(filter)
      if (task) this.#followed.delete(task)
    }
    if (![...filters.keys()].some(isWild)) this.#wild.delete(client)
    if (filters.size === 0) this.#filters.delete(client)
  }

  forget(client: Client): void {
    for (const filter of [...(this.#filters.get(client)?.keys() ?? [])]) this.remove(client, filter)
  }

  /** Disconnects all subscribers, which get the current states when they reconnect. */
  cutOff(because: string): void {
    for (const client of this.#filters.keys()) client.conn.destroy(new Error(because))
  }

  /** One row of numbers for each client. */
  #nextId(client: Client): number {
    const id = ((this.#lastIds.get(client) ?? 0) % IDS) + 1
    this.#lastIds.set(client, id)
    return id
  }

  isHeard(topic: string): boolean {
    return this.#hearers(topic, undefined).size > 0
  }

  /** The subscriptions to any topic of a shape, as texts that no two share. */
  subscriptionsTo(shape: string): Set<string> {
    const start = shape.slice(0, shape.indexOf('+'))
    const idLevel = shape.split('/').indexOf('+')
    const found = new Set<string>()
    for (const [topic, clients] of this.#exact) {
      if (topic.startsWith(start)) for (const { id } of clients) found.add(`${topic} ${id}`)
    }
    for (const client of this.#wild) {
      for (const filter of this.#filters.get(client)!.keys()) {
        if (fits(filter, shape) || namesAt(filter, idLevel, shape)) found.add(`${filter} ${client.id}`)
      }
    }
    return found
  }

  /** Resolves when every subscriber has read its messages or was disconnected, to bound the reading of events. */
  async deliver(
    messages: readonly Message[],
    qosMax: Qos,
    shown: (client: Client, message: Message) => Message | null,
  ) {
    const packets = this.#free.pop() ?? new Packets()
    const writes = new Map<Client, Outgoing>()
    for (const message of messages) {
      const { kind, topic, shape } = message
      const hearers = this.#hearers(topic, shape)
      if (hearers.size === 0) continue
      // What is acknowledged bears a number of the client's; all others that are shown the same get the same bytes.
      let shared: { form: Message; publish: Publish; piece?: Piece } | undefined
      for (const [client, wanted] of hearers) {
        const form = shown(client, message)
        if (form === null) continue
        if (shared?.form !== form) shared = { form, publish: { topic, payload: form.payload(), qos: 0, id: 0 } }
        const { publish } = shared
        const qos = Math.min(kind.qosMax, qosMax, wanted) as Qos
        if (qos === 0) shared.piece ??= packets.add(publish)
        const piece = qos === 0 ? shared.piece! : packets.add({ ...publish, qos, id: this.#nextId(client) })
        const outgoing = writes.get(client) ?? new Outgoing()
        writes.set(client, outgoing)
        outgoing.add(piece)
      }
    }
    await Promise.all([...writes].map(([client, outgoing]) => this.#write(client, outgoing, packets)))
    packets.clear()
    this.#free.push(packets)
  }

  /**
   * Sends the current states of a new subscription as fast as its client reads: some bytes at a time, and no more
   * before the system has taken them. A client that reads too slowly is disconnected.
   */
  async sendStates(client: Client, states: AsyncIterable<State>, qosMax: Qos, shown: (state: State) => State | null) {
    const until = performance.now() + STATES_MS_MAX
    const packets = new Packets(CHUNK_BYTES)
    let outgoing = new Outgoing()
    for await (const state of states) {
      // It may have left, or have gone back on its subscription.
      const wanted = this.#hearers(state.topic, undefined).get(client)
      const form = wanted === undefined ? null : shown(state)
      if (wanted === undefined || form === null) continue
      const qos = Math.min(qosMax, wanted) as Qos
      const id = qos === 0 ? 0 : this.#nextId(client)
      outgoing.add(packets.add({ topic: form.topic, payload: form.payload, qos, id, retain: true }))
      if (packets.length < CHUNK_BYTES) continue
      await this.#write(client, outgoing, packets)
      packets.clear()
      outgoing = new Outgoing()
      if (performance.now() > until) client.conn.destroy(new Error('it takes the states too slowly'))
      if (client.conn.destroyed) return
    }
    if (packets.length > 0) await this.#write(client, outgoing, packets)
  }

  /** Each client once, with the highest quality of service of its filters that fit. */
  #hearers(topic: string, shape: string | undefined): ReadonlyMap<Client, Qos> {
    const exact = this.#exact.size > 0 ? this.#exact.get(topic) : undefined
    const wild = shape === undefined ? this.#wildHearers(topic) : this.#shapeHearers(shape)
    if (!exact && wild.some.length === 0) return wild.all
    const hearers = new Map(wild.all)
    for (const client of exact ?? []) add(hearers, client, this.#filters.get(client)!.get(topic)!)
    for (const [client, filter, qos] of wild.some) if (fits(filter, topic)) add(hearers, client, qos)
    return hearers
  }

  #shapeHearers(shape: string): WildHearers {
    let hearers = this.#shapes.get(shape)
    if (!hearers) {
      if (this.#shapes.size >= SHAPES_MAX) this.#shapes.clear()
      hearers = this.#wildHearers(shape)
      this.#shapes.set(shape, hearers)
    }
    return hearers
  }

  #wildHearers(shape: string): WildHearers {
    const hearers: WildHearers = { all: new Map(), some: [] }
    const idLevel = shape.split('/').indexOf('+')
    for (const client of this.#wild) {
      for (const [filter, qos] of this.#filters.get(client)!) {
        if (!isWild(filter)) continue
        if (fits(filter, shape)) add(hearers.all, client, qos)
        else if (namesAt(filter, idLevel, shape)) hearers.some.push([client, filter, qos])
      }
    }
    return hearers
  }

  /** Resolves when the bytes are the system's, or the client is gone: then their memory is free again. */
  async #write(client: Client, outgoing: Outgoing, packets: Packets): Promise<void> {
    const { conn } = client
    if (conn.destroyed) return
    await new Promise<void>((resolve) => {
      const done = () => {
        clearTimeout(late)
        conn.off('close', done)
        resolve()
      }
      const late = setTimeout(() => conn.destroy(new Error('it takes nothing')), this.#drainMs)
      conn.on('close', done)
      outgoing.writeTo(conn, packets, done)
    })
  }
}

/** What goes to one client: pieces of the memory that all share. */
class Outgoing {
  readonly #pieces: Piece[] = []

  add({ start, end }: Piece): void {
    const last = this.#pieces.at(-1)
    if (last?.end === start) last.end = end
    else this.#pieces.push({ start, end })
  }

  writeTo(stream: Client['conn'], packets: Packets, done: () => void): void {
    const last = this.#pieces.length - 1
    stream.cork()
    for (const [index, piece] of this.#pieces.entries()) {
      stream.write(packets.bytesOf(piece), index === last ? done : undefined)
    }
    stream.uncork()
  }
}

function isWild(filter: string): boolean {
  return filter.includes('+') || filter.includes('#')
}

/** Whether a filter that does not fit a shape fits topics of it: those with the one id that it names. */
function namesAt(filter: string, idLevel: number, shape: string): boolean {
  const id = filter.split('/')[idLevel]
  return (
    id !== undefined &&
    fits(
      filter,
      shape.replace('+', () => id),
    )
  )
}

function add(hearers: Map<Client, Qos>, client: Client, qos: Qos): void {
  if (qos >= (hearers.get(client) ?? 0)) hearers.set(client, qos)
}
