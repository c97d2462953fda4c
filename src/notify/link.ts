import { once } from 'node:events'
import type { Socket } from 'node:net'
import { type IPublishPacket, type MqttClient, ReasonCodes } from 'mqtt'
import { connect, type LinkOptions } from './connect.ts'
import type { Qos } from './packets.ts'
import { propertiesOf } from './properties.ts'
import { type Message, WORKER_STATES } from './topics.ts'

const END_MS_MAX = 1_000
/** A retained message comes right behind the acknowledgement of its subscription. */
const RETAINED_WAIT_MS = 1_000
/** Messages in flight at once, if the broker allows as many. */
const IN_FLIGHT_MAX = 500
/** Codes of both protocol versions that say that user, password or client id are not accepted. */
const NOT_LET_IN = [2, 4, 5, 133, 134, 135, 138]
/** Bytes of a packet beside payload and topic, with a type of 100 characters in its properties. */
const REST_BYTES_MAX = 400

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
  next: number
  /** Of one message: the broker has it, or has refused it, or it was left out. */
  done: (error?: Error | null) => void
}

/**
 * One connection to a broker, for as long as it lasts: connecting → open → lost. It never reconnects: what was in
 * flight when it broke is read again from the outbox, so that no stale message of an old connection can follow newer
 * ones of another process.
 */
export class Link {
  /** Fires when the connection is gone; its reason says why. */
  readonly lost: AbortSignal
  readonly #client: MqttClient
  readonly #options: LinkOptions
  readonly #terms: Terms
  readonly #waiting: Page[] = []
  #inFlight = 0
  #soon: NodeJS.Immediate | undefined

  /** @throws Error saying why not; `tryOtherVersion` tells that the broker may speak another version */
  static open(options: LinkOptions, version: 4 | 5): Promise<Link> {
    const lost = new AbortController()
    const client = connect(options, version)
    let because: Error | undefined
    const fail = (error: Error) => {
      because ??= error
      client.stream.destroy()
    }
    client.on('error', fail)
    client.on('disconnect', ({ reasonCode = 0 }) =>
      fail(new Error(`the broker closed the connection: ${reasonOf(reasonCode)}`)),
    )
    return new Promise((resolve, reject) => {
      client.on('close', () => {
        const error = because ?? new Error('the broker closed the connection')
        lost.abort(error)
        const { code } = error as { code?: unknown }
        // A system error or a refused login has nothing to do with the version.
        const tryOtherVersion = typeof code !== 'string' && !NOT_LET_IN.includes(code as number)
        reject(Object.assign(new Error(error.message, { cause: error }), { tryOtherVersion }))
        client.end(true)
      })
      client.once('connect', ({ properties = {} }) => {
        // Small messages held back until earlier ones are acknowledged would cost 40 ms a page. WebSockets have no say.
        ;(client.stream as Partial<Socket>).setNoDelay?.(true)
        const terms = {
          version,
          inFlightMax: Math.min(IN_FLIGHT_MAX, properties.receiveMaximum ?? IN_FLIGHT_MAX),
          packetBytesMax: properties.maximumPacketSize ?? Number.POSITIVE_INFINITY,
          qosMax: Math.min(options.qos, properties.maximumQoS ?? 2) as Qos,
          retains: options.retain && (properties.retainAvailable ?? true),
        }
        resolve(new Link(client, options, lost.signal, terms))
      })
    })
  }

  private constructor(client: MqttClient, options: LinkOptions, lost: AbortSignal, terms: Terms) {
    this.#client = client
    this.#options = options
    this.lost = lost
    this.#terms = terms
  }

  /**
   * Sends all in order, after what was handed over before, many in flight. Resolves when the broker has acknowledged
   * each. @throws the loss, or what the broker refused a message with
   */
  publish(messages: readonly Message[]): Promise<void> {
    if (messages.length === 0) return Promise.resolve()
    return new Promise((resolve, reject) => {
      const fail = () => reject(this.lost.reason)
      if (this.lost.aborted) return fail()
      this.lost.addEventListener('abort', fail, { once: true })
      let left = messages.length
      const done = (error?: (Error & { code?: number }) | null) => {
        left -= 1
        // Without a code it is the loss of the connection, of which `lost` tells more.
        if (error?.code) reject(new Error(`the broker refused a message: ${reasonOf(error.code)}`, { cause: error }))
        if (left > 0 || (error && !error.code)) return
        this.lost.removeEventListener('abort', fail)
        resolve()
      }
      this.#waiting.push({ messages, next: 0, done })
      this.#send()
    })
  }

  /**
   * Whether the broker, which retains messages, has none on a topic. If it refuses the subscription, this cannot be
   * known, and is false.
   */
  async hasLost(topic: string): Promise<boolean> {
    if (!this.#terms.retains) return false
    const found = Promise.withResolvers<boolean>()
    const heard = (at: string) => {
      if (at === topic) found.resolve(false)
    }
    this.#client.on('message', heard)
    const late = AbortSignal.any([this.lost, AbortSignal.timeout(RETAINED_WAIT_MS)])
    late.addEventListener('abort', () => found.resolve(!this.lost.aborted), { once: true })
    try {
      await this.#client.subscribeAsync(topic, { qos: 1 })
      return await found.promise
    } catch {
      return false
    } finally {
      this.#client.off('message', heard)
      if (!this.lost.aborted) this.#client.unsubscribe(topic)
    }
  }

  /** Ends at once: what is not acknowledged is lost to this link, and the broker tells the will. */
  abandon(): void {
    this.#client.stream.destroy()
  }

  async close(): Promise<void> {
    const { workerId, topics } = this.#options
    // The will says the same.
    if (workerId) await this.publish([topics.ofWorker(workerId, WORKER_STATES.gone)]).catch(() => undefined)
    if (this.lost.aborted) return
    const late = setTimeout(() => this.abandon(), END_MS_MAX)
    this.#client.end()
    await once(this.lost, 'abort')
    clearTimeout(late)
  }

  /** As many as the broker takes at once, whichever call they belong to: what is sent in one go leaves in one write. */
  #send(): void {
    if (this.lost.aborted) return
    const { inFlightMax } = this.#terms
    for (let page = this.#waiting[0]; page && this.#inFlight < inFlightMax; page = this.#waiting[0]) {
      const { messages, next, done } = page
      page.next += 1
      if (page.next === messages.length) this.#waiting.shift()
      const packet = this.#packet(messages[next]!)
      if (!packet) {
        done()
        continue
      }
      this.#inFlight += 1
      this.#client.publish(packet.topic, packet.payload, packet, (error) => {
        this.#inFlight -= 1
        done(error)
        this.#sendSoon()
      })
    }
  }

  /** Acknowledgements that came together are answered with one write: each would have cost one of its own. */
  #sendSoon(): void {
    if (this.#soon || this.#waiting.length === 0) return
    this.#soon = setImmediate(() => {
      this.#soon = undefined
      this.#send()
    })
  }

  /** What is too large for the broker goes without its result, or not at all: it would end the connection each time. */
  #packet(message: Message): Omit<IPublishPacket, 'cmd' | 'dup'> | null {
    const { version, packetBytesMax, qosMax, retains } = this.#terms
    const { kind, topic, payload } = message
    const qos = Math.min(kind.qosMax, qosMax) as Qos
    const packet = { topic, payload: payload(), qos, retain: kind.retain && retains }
    const bytesMax = packetBytesMax - Buffer.byteLength(topic) - REST_BYTES_MAX
    if (isLonger(packet.payload, bytesMax)) packet.payload = withoutResult(packet.payload)
    if (isLonger(packet.payload, bytesMax)) return null
    if (version !== 5 || packet.payload === '') return packet
    return { ...packet, properties: propertiesOf(message, this.#options.retentionMs) }
  }
}

function reasonOf(code: number): string {
  return ReasonCodes[code as keyof typeof ReasonCodes] ?? `code ${code}`
}

function isLonger(text: string, bytesMax: number): boolean {
  return text.length * 3 > bytesMax && Buffer.byteLength(text) > bytesMax
}

function withoutResult(payload: string): string {
  const { error, ...rest } = JSON.parse(payload)
  return JSON.stringify({ ...rest, result: null, progress: null, error: error && String(error).slice(0, 200) })
}
