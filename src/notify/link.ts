import type { Duplex } from 'node:stream'
import { generate, type IConnackPacket, parser } from 'mqtt-packet'
import type { TaskEvent } from '../task/event.ts'
import { Packets, type Publish, publishBytes, type Qos, takePackets } from './packets.ts'
import { loginOf, openStream } from './stream.ts'
import { type Message, type Topics, WORKER_STATES } from './topics.ts'

const CONNECT_MS_MAX = 10_000
const END_MS_MAX = 1_000
const KEEPALIVE_S = 15
/** Messages in flight at once, if the broker allows as many. */
const IN_FLIGHT_MAX = 500
const REFUSED_FROM = 0x80
const ANY_BYTES = Number.POSITIVE_INFINITY
const [CONNACK, PUBACK, PUBREC, PUBCOMP, DISCONNECT] = [2, 4, 5, 7, 14]
const PUBREL = '\x62\x02'
const PINGREQ = '\xc0\0'
const GOODBYE = '\xe0\0'

/** What a broker says with CONNACK, by the codes of both versions; the first ones have to do with the version. */
const REFUSALS: Readonly<Record<number, string>> = {
  1: 'it does not speak this version of MQTT',
  132: 'it does not speak this version of MQTT',
  2: 'client id not accepted',
  133: 'client id not accepted',
  3: 'the broker is not available',
  136: 'the broker is not available',
  137: 'the broker is busy',
  4: 'bad user name or password',
  134: 'bad user name or password',
  5: 'not authorized',
  135: 'not authorized',
  138: 'banned',
}
const OF_THE_VERSION = [1, 129, 130, 132]

export interface LinkOptions {
  url: string
  clientId: string
  qos: Qos
  retain: boolean
  retentionMs: number
  /** The worker whose `offline` the broker tells if this connection is lost. */
  workerId: string | null
  topics: Topics
}

/** What the broker takes. */
interface Terms {
  version: 4 | 5
  inFlightMax: number
  packetBytesMax: number
  qosMax: Qos
  retains: boolean
}

/** Messages that were handed over together, `next` being the first that is not sent yet. */
interface Page {
  messages: readonly Message[]
  qos: Qos
  next: number
  unacknowledged: number
  done: (error?: Error) => void
}

/**
 * One connection to a broker, for as long as it lasts: connecting → open → lost. It never reconnects: what was in
 * flight when it broke is read again from the outbox, so that no stale message of an old connection can follow newer
 * ones of another process. Packets leave many to a write, and are known by a number until they are acknowledged.
 */
export class Link {
  /** Fires when the connection is gone; its reason says why. */
  readonly lost: AbortSignal
  readonly #stream: Duplex
  readonly #options: LinkOptions
  readonly #terms: Terms
  readonly #waiting: Page[] = []
  readonly #inFlight = new Map<number, Page>()
  #lastId = 0
  /** Memory of packets that were written. */
  readonly #free: Packets[] = []
  #described: { event: TaskEvent | undefined; properties: string } = { event: undefined, properties: JSON_TEXT }

  /** @throws Error saying why not; `tryOtherVersion` tells that the broker may speak another version */
  static open(options: LinkOptions, version: 4 | 5): Promise<Link> {
    const stream = openStream(options.url)
    const lost = new AbortController()
    return new Promise((resolve, reject) => {
      let link: Link | undefined
      let heardAt = performance.now()
      const end = (error: Error & { tryOtherVersion?: boolean }) => {
        clearTimeout(late)
        clearInterval(alive)
        stream.destroy()
        lost.abort(error)
        reject(error)
      }
      const late = setTimeout(() => end(new Error('the broker does not answer')), CONNECT_MS_MAX)
      const alive = setInterval(() => {
        if (performance.now() - heardAt > KEEPALIVE_S * 1_500) end(new Error('the broker has gone silent'))
        else if (link) stream.write(PINGREQ, 'latin1')
      }, KEEPALIVE_S * 500)
      const take = (head: number, body: Buffer) => {
        if (link) return link.#take(head >> 4, body)
        const terms = head >> 4 === CONNACK ? termsOf(body, version, options.retain) : new Error('it is no MQTT broker')
        if (terms instanceof Error) return end(terms)
        clearTimeout(late)
        link = new Link(stream, options, lost.signal, terms)
        resolve(link)
      }
      let rest: Buffer = Buffer.alloc(0)
      stream.on('data', (chunk: Buffer) => {
        heardAt = performance.now()
        rest = takePackets(rest.length === 0 ? chunk : Buffer.concat([rest, chunk]), take)
        if (link) link.#send()
      })
      // A broker that does not know the version may say nothing at all.
      stream.on('close', () =>
        end(Object.assign(new Error('the broker closed the connection'), { tryOtherVersion: true })),
      )
      stream.on('error', end)
      stream.write(connectPacket(options, version))
    })
  }

  private constructor(stream: Duplex, options: LinkOptions, lost: AbortSignal, terms: Terms) {
    this.#stream = stream
    this.#options = options
    this.lost = lost
    this.#terms = terms
  }

  /**
   * Sends all in order, after what was handed over before, many in flight. Resolves when the broker has acknowledged
   * each. @throws the loss, or what the broker refused a message with
   */
  publish(messages: readonly Message[], qos = this.#options.qos): Promise<void> {
    if (messages.length === 0) return Promise.resolve()
    return new Promise((resolve, reject) => {
      const fail = () => reject(this.lost.reason)
      if (this.lost.aborted) return fail()
      this.lost.addEventListener('abort', fail, { once: true })
      const done = (error?: Error) => {
        this.lost.removeEventListener('abort', fail)
        if (error) reject(error)
        else resolve()
      }
      const granted = Math.min(qos, this.#terms.qosMax) as Qos
      this.#waiting.push({ messages, qos: granted, next: 0, unacknowledged: messages.length, done })
      this.#send()
    })
  }

  /** Ends at once: what is not acknowledged is lost to this link, and the broker tells the will. */
  abandon(): void {
    this.#stream.destroy()
  }

  async close(): Promise<void> {
    const { workerId, topics } = this.#options
    if (this.lost.aborted) return
    // The will says the same.
    if (workerId) await this.publish([topics.ofWorker(workerId, WORKER_STATES.gone)]).catch(() => undefined)
    const closed = new Promise((resolve) => this.#stream.once('close', resolve))
    if (!this.lost.aborted) this.#stream.end(GOODBYE, 'latin1')
    const late = setTimeout(() => this.#stream.destroy(), END_MS_MAX)
    if (!this.#stream.closed) await closed
    clearTimeout(late)
  }

  /**
   * As many as the broker takes at once, whichever call they belong to, in one write. Brokers acknowledge one by one:
   * going on only when half of the room is free makes one write of hundreds.
   */
  #send(): void {
    if (this.#waiting.length === 0 || this.#inFlight.size > this.#terms.inFlightMax / 2) return
    const packets = this.#free.pop() ?? new Packets()
    const written: Page[] = []
    for (let page = this.#waiting[0]; page; page = this.#waiting[0]) {
      while (page.next < page.messages.length && (page.qos === 0 || this.#inFlight.size < this.#terms.inFlightMax)) {
        this.#add(packets, page.messages[page.next++]!, page)
      }
      if (page.next < page.messages.length) break
      this.#waiting.shift()
      if (page.qos === 0) written.push(page)
      else if (page.unacknowledged === 0) page.done()
    }
    const free = () => {
      packets.clear()
      this.#free.push(packets)
    }
    if (packets.length === 0) {
      free()
      return
    }
    this.#stream.write(packets.bytesOf({ start: 0, end: packets.length }), (error) => {
      free()
      if (!error) for (const page of written) page.done()
    })
  }

  #add(packets: Packets, { topic, payload, retain, final, event }: Message, page: Page): void {
    const { version, packetBytesMax, retains } = this.#terms
    const { qos } = page
    const text = payload()
    const expires = final ? `\x02${fourBytes(Math.ceil(this.#options.retentionMs / 1_000))}` : ''
    const properties = version === 5 ? (text === '' ? '' : expires + this.#properties(event)) : null
    const id = qos > 0 ? this.#nextId() : 0
    const publish: Publish = { topic, payload: text, qos, retain: retain && retains, id, properties }
    if (packetBytesMax < ANY_BYTES && publishBytes(publish) > packetBytesMax) {
      publish.payload = withoutResult(text)
      // Not even so: it would end the connection, again and again.
      if (publishBytes(publish) > packetBytesMax) {
        page.unacknowledged -= 1
        return
      }
    }
    if (qos > 0) this.#inFlight.set(id, page)
    packets.add(publish)
  }

  /** Both messages of an event say the same of it. */
  #properties(event: TaskEvent | undefined): string {
    if (event === undefined) return JSON_TEXT
    if (this.#described.event !== event) {
      const { id, taskId, type, status } = event
      const about = { event_id: id, task_id: taskId, task_type: type, task_status: status }
      let properties = JSON_TEXT
      for (const [name, value] of Object.entries(about)) properties += `\x26${sized(name)}${sized(value)}`
      this.#described = { event, properties }
    }
    return this.#described.properties
  }

  #nextId(): number {
    do {
      this.#lastId = (this.#lastId % 65_535) + 1
    } while (this.#inFlight.has(this.#lastId))
    return this.#lastId
  }

  #take(kind: number, body: Buffer): void {
    if (kind === DISCONNECT) {
      const error = new Error(`the broker ended the connection with code ${body[0] ?? 0}`)
      return void this.#stream.destroy(error)
    }
    if (kind !== PUBACK && kind !== PUBREC && kind !== PUBCOMP) return
    const id = body.readUInt16BE()
    const code = body[2] ?? 0
    if (kind === PUBREC && code < REFUSED_FROM) return void this.#stream.write(PUBREL + twoBytes(id), 'latin1')
    const page = this.#inFlight.get(id)
    if (!page) return
    this.#inFlight.delete(id)
    page.unacknowledged -= 1
    if (code >= REFUSED_FROM) page.done(new Error(`the broker refused a message: ${REFUSALS[code] ?? `code ${code}`}`))
    else if (page.unacknowledged === 0) page.done()
  }
}

/** Payload format: UTF-8; content type. */
const JSON_TEXT = `\x01\x01\x03${sized('application/json')}`

function connectPacket({ url, clientId, workerId, topics, retain }: LinkOptions, version: 4 | 5): Buffer {
  const will = workerId === null ? null : topics.ofWorker(workerId, WORKER_STATES.gone)
  return generate({
    cmd: 'connect',
    protocolVersion: version,
    clientId,
    clean: true,
    keepalive: KEEPALIVE_S,
    ...loginOf(url),
    ...(will ? { will: { topic: will.topic, payload: Buffer.from(will.payload()), qos: 1, retain } } : {}),
  })
}

/** What the broker has answered to CONNECT. */
function termsOf(body: Buffer, version: 4 | 5, retain: boolean): Terms | Error {
  let connack: IConnackPacket | undefined
  const reading = parser({ protocolVersion: version })
  reading.on('packet', (packet) => {
    connack = packet as IConnackPacket
  })
  reading.on('error', () => undefined)
  reading.parse(Buffer.concat([Buffer.from([CONNACK << 4, body.length]), body]))
  const code = connack?.reasonCode ?? connack?.returnCode ?? body[1] ?? 0
  if (code !== 0) {
    const error = new Error(REFUSALS[code] ?? `the broker refused the connection with code ${code}`)
    return Object.assign(error, { tryOtherVersion: OF_THE_VERSION.includes(code) })
  }
  const { receiveMaximum, maximumPacketSize, maximumQoS, retainAvailable } = connack?.properties ?? {}
  return {
    version,
    inFlightMax: Math.min(IN_FLIGHT_MAX, receiveMaximum ?? IN_FLIGHT_MAX),
    packetBytesMax: maximumPacketSize ?? ANY_BYTES,
    qosMax: (maximumQoS ?? 2) as Qos,
    retains: retain && (retainAvailable ?? true),
  }
}

/** What is too large for the broker goes without its result. */
function withoutResult(payload: string): string {
  const { error, ...rest } = JSON.parse(payload)
  return JSON.stringify({ ...rest, result: null, progress: null, error: error && String(error).slice(0, 200) })
}

/** ASCII with its length before it. */
function sized(text: string): string {
  return twoBytes(text.length) + text
}

function twoBytes(value: number): string {
  return String.fromCharCode(value >> 8, value & 255)
}

function fourBytes(value: number): string {
  return twoBytes(value >>> 16) + twoBytes(value & 0xffff)
}
