import type { Socket } from 'node:net'
import mqtt, { type MqttClient } from 'mqtt'
import { type Message, type Topics, WORKER_STATES } from './topics.ts'

const CONNECT_MS_MAX = 10_000
const KEEPALIVE_S = 15
/** Messages in flight at once, if the broker allows as many. */
const IN_FLIGHT_MAX = 500
/** Reason codes of both protocol versions that say that user, password or client id are not accepted. */
const NOT_LET_IN = [2, 4, 5, 133, 134, 135, 138]

export interface LinkOptions {
  url: string
  clientId: string
  qos: 0 | 1 | 2
  retain: boolean
  retentionMs: number
  /** The worker whose `offline` the broker tells if this connection is lost. */
  workerId: string | null
  topics: Topics
}

/**
 * One connection to a broker, for as long as it lasts. It never reconnects: what was in flight when it broke is read
 * again from the outbox, so that no stale message of an old connection can follow newer ones of another process.
 */
export class Link {
  /** Fires when the connection is gone; its reason says why. */
  readonly lost: AbortSignal
  readonly #client: MqttClient
  readonly #options: LinkOptions
  readonly #inFlightMax: number
  readonly #sizeMax: number
  readonly #waiting: { message: Message; qos: 0 | 1 | 2; done: (error?: Error | null) => void }[] = []
  #inFlight = 0
  #sending = false

  /** @throws Error saying why not; `tryOtherVersion` tells that the broker may speak another version */
  static async open(options: LinkOptions, version: 4 | 5): Promise<Link> {
    const { url, clientId, workerId, topics } = options
    const lost = new AbortController()
    const will = workerId && { topic: topics.worker(workerId), payload: Buffer.from(WORKER_STATES.gone) }
    const client = mqtt.connect(url, {
      clientId,
      protocolVersion: version,
      clean: true,
      reconnectPeriod: 0,
      reconnectOnConnackError: false,
      connectTimeout: CONNECT_MS_MAX,
      keepalive: KEEPALIVE_S,
      ...(will ? { will: { ...will, qos: 1 as const, retain: options.retain } } : {}),
    })
    return new Promise((resolve, reject) => {
      let because: (Error & { code?: unknown }) | undefined
      client.on('error', (error) => {
        because = error
      })
      client.on('close', () => {
        const error = because ?? new Error('the broker closed the connection')
        const { code } = error as { code?: unknown }
        // A system error or a refused login has nothing to do with the version.
        const tryOtherVersion = typeof code !== 'string' && !NOT_LET_IN.includes(code as number)
        client.end(true)
        lost.abort(error)
        reject(Object.assign(error, { tryOtherVersion }))
      })
      client.once('connect', ({ properties }) => {
        // Small messages held back until earlier ones are acknowledged would cost 40 ms a page. WebSockets have no say.
        ;(client.stream as Partial<Socket>).setNoDelay?.(true)
        const { receiveMaximum = IN_FLIGHT_MAX, maximumPacketSize = Number.POSITIVE_INFINITY } = properties ?? {}
        const inFlightMax = Math.min(IN_FLIGHT_MAX, receiveMaximum)
        resolve(new Link(client, options, lost.signal, inFlightMax, maximumPacketSize))
      })
    })
  }

  private constructor(
    client: MqttClient,
    options: LinkOptions,
    lost: AbortSignal,
    inFlightMax: number,
    sizeMax: number,
  ) {
    this.#client = client
    this.#options = options
    this.lost = lost
    this.#inFlightMax = inFlightMax
    this.#sizeMax = sizeMax
  }

  /**
   * Sends all in order, after what was handed over before, many in flight. Resolves when the broker has acknowledged
   * each. @throws the loss, or what the broker refused a message with
   */
  publish(messages: readonly Message[], qos = this.#options.qos): Promise<void> {
    if (messages.length === 0) return Promise.resolve()
    return new Promise((resolve, reject) => {
      let left = messages.length
      const fail = () => reject(this.lost.reason)
      const done = (error?: Error | null) => {
        left -= 1
        if (error) reject(error)
        if (left > 0) return
        this.lost.removeEventListener('abort', fail)
        resolve()
      }
      if (this.lost.aborted) return fail()
      this.lost.addEventListener('abort', fail, { once: true })
      for (const message of messages) this.#waiting.push({ message, qos, done })
      this.#sendWaiting()
    })
  }

  /** As many as the broker takes at once, whichever call they belong to. */
  #sendWaiting(): void {
    if (this.#sending) return // An acknowledgement that comes at once: the loop below goes on by itself.
    this.#sending = true
    while (this.#inFlight < this.#inFlightMax && this.#waiting.length > 0) {
      const { message, qos, done } = this.#waiting.shift()!
      this.#inFlight += 1
      this.#send(message, qos, (error) => {
        this.#inFlight -= 1
        done(error)
        this.#sendWaiting()
      })
    }
    this.#sending = false
  }

  /** Ends at once: what is not acknowledged is lost to this link, and the broker tells the will. */
  abandon(): void {
    this.#client.end(true)
  }

  async close(): Promise<void> {
    const { workerId, topics, retain } = this.#options
    if (!this.lost.aborted && workerId) {
      const message = { topic: topics.worker(workerId), payload: WORKER_STATES.gone, retain }
      await this.publish([message]).catch(() => undefined) // The will says the same.
    }
    await this.#client.endAsync(this.lost.aborted)
  }

  #send({ topic, payload, retain, final, event }: Message, qos: 0 | 1 | 2, done: (error?: Error | null) => void): void {
    const options = { qos, retain: retain && this.#options.retain }
    if (this.#client.options.protocolVersion !== 5 || payload === '') {
      this.#client.publish(topic, payload, options, done)
      return
    }
    const userProperties = event && {
      event_id: event.id,
      task_id: event.taskId,
      task_type: event.type,
      task_status: event.status,
    }
    const properties = {
      payloadFormatIndicator: true,
      contentType: 'application/json',
      ...(final ? { messageExpiryInterval: Math.ceil(this.#options.retentionMs / 1_000) } : {}),
      ...(userProperties ? { userProperties } : {}),
    }
    const text = payload.length * 3 < this.#sizeMax ? payload : within(payload, this.#sizeMax - topic.length - 500)
    this.#client.publish(topic, text, { ...options, properties }, done)
  }
}

/** A message above the broker's limit would end the connection, again and again: it goes without its result. */
function within(payload: string, bytesMax: number): string {
  if (Buffer.byteLength(payload) <= bytesMax) return payload
  const { error, ...rest } = JSON.parse(payload)
  return JSON.stringify({ ...rest, result: null, progress: null, error: error && String(error).slice(0, 200) })
}
