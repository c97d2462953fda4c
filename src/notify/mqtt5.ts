import { randomUUID } from 'node:crypto'
import { Duplex } from 'node:stream'
import mqttPacket, { type IConnectPacket, type ISubscribePacket, type Packet, type Parser } from 'mqtt-packet'

/**
 * MQTT 5 in front of a broker that speaks MQTT 3.1.1: what a client that only subscribes needs of it. Acknowledgements
 * get reason codes, refusals reason strings; a publish is refused here with 0x87, and the connection goes on.
 */

/** Of the first packet, up to the version. */
const HEAD_BYTES_MAX = 12
const CONNECT = 0x10
const REASONS = { badMethod: 0x8c, notAuthorized: 0x87, protocolError: 0x82 } as const
/** Of CONNACK: the return codes of MQTT 3.1.1 in their order. */
const CONNACK_REASONS: readonly [code: number, text: string][] = [
  [0, ''],
  [0x84, 'the protocol version is not supported'],
  [0x85, 'the client id is not valid'],
  [0x88, 'the server is unavailable, try again'],
  [0x86, 'the user name or password is not accepted'],
  [0x87, 'the key is missing or invalid, or does not allow this'],
]
const SUBSCRIPTION_REFUSED = 0x80
const NEVER_STATES = 2
const STATES_OF_NEW_ONLY = 1

/** Calls `ready` with the version that the first packet asks for, all bytes still to be read; null: no version. */
export function whenVersionKnown(stream: Duplex, waitMs: number, ready: (version: number | null) => void): void {
  let head = Buffer.alloc(0)
  const late = setTimeout(() => stream.destroy(), waitMs).unref()
  const done = (version: number | null) => {
    clearTimeout(late)
    stream.off('readable', read).off('close', gone).off('end', gone)
    if (head.length > 0) stream.unshift(head)
    ready(version)
  }
  const gone = () => {
    clearTimeout(late)
    stream.destroy()
  }
  const read = () => {
    const bytes = stream.read() as Buffer | null
    if (bytes === null) return
    head = Buffer.concat([head, bytes])
    const version = versionIn(head)
    if (version !== undefined) done(version)
  }
  stream.on('readable', read).once('close', gone).once('end', gone)
}

/** Undefined: more bytes are needed. */
function versionIn(head: Buffer): number | null | undefined {
  if (head.length > 0 && head[0] !== CONNECT) return null
  let at = 1
  while (at < head.length && at < 4 && head[at]! > 127) at += 1
  const protocolBytes = head.length >= at + 3 ? head.readUInt16BE(at + 1) : 0
  const version = head[at + 3 + protocolBytes]
  if (version !== undefined) return version
  return head.length > HEAD_BYTES_MAX ? null : undefined
}

export interface Mqtt5Options {
  receivedBytesMax: number
  filtersMax: number
  onRefusedPublish: (topic: string) => void
}

/** The 3.1.1 side of a client's MQTT 5 stream. */
export class Mqtt5 extends Duplex {
  /** The client's own. */
  readonly stream: Duplex
  readonly #options: Mqtt5Options
  readonly #fromClient = mqttPacket.parser({ protocolVersion: 5 })
  readonly #fromBroker = mqttPacket.parser({ protocolVersion: 4 })
  /** Of unsubscriptions that are not acknowledged: how many filters each has. */
  readonly #unsubscribing = new Map<number, number>()
  /** Filters whose present states the client does not want, since it asked so or has had them. */
  readonly #withoutStates = new Set<string>()
  readonly #subscribed = new Set<string>()
  #connect: IConnectPacket | null = null
  #assignedId: string | undefined
  #outgoing: Buffer[] = []

  constructor(stream: Duplex, options: Mqtt5Options) {
    super()
    this.stream = stream
    this.#options = options
    this.#fromClient.on('packet', (packet) => this.#received(packet))
    this.#fromBroker.on('packet', (packet) => this.#send(packet))
    for (const parser of [this.#fromClient, this.#fromBroker]) {
      parser.on('error', (error: Error) => this.destroy(error))
    }
    stream.on('data', (bytes: Buffer) => {
      try {
        this.#fromClient.parse(bytes)
      } catch (error) {
        this.destroy(error as Error)
      }
      if (pendingBytes(this.#fromClient) > options.receivedBytesMax) this.destroy(new Error('the packet is too long'))
    })
    stream.once('end', () => this.push(null))
    stream.once('close', () => this.destroy())
    stream.on('error', (error) => this.destroy(error))
  }

  /** Whether the client wants the present states behind a filter that it has just subscribed to. */
  wantsStates(filter: string): boolean {
    return !this.#withoutStates.has(filter)
  }

  override _read(): void {
    this.stream.resume()
  }

  override _write(bytes: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#fromBroker.parse(bytes)
    this.#flush(done)
  }

  override _writev(chunks: { chunk: Buffer }[], done: (error?: Error | null) => void): void {
    for (const { chunk } of chunks) this.#fromBroker.parse(chunk)
    this.#flush(done)
  }

  override _final(done: (error?: Error | null) => void): void {
    this.stream.end()
    done()
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.stream.destroy()
    done(error)
  }

  #flush(done?: (error?: Error | null) => void): void {
    const bytes = Buffer.concat(this.#outgoing)
    this.#outgoing = []
    if (this.stream.destroyed || bytes.length === 0) return void done?.()
    this.stream.write(bytes, done)
  }

  /** To the broker. */
  #pass(packet: Packet): void {
    if (!this.push(mqttPacket.generate(packet, { protocolVersion: 4 }))) this.stream.pause()
  }

  #received(packet: Packet): void {
    if (this.destroyed) return
    switch (packet.cmd) {
      case 'connect':
        this.#connecting(packet)
        break
      case 'subscribe':
        this.#subscribing(packet)
        break
      case 'unsubscribe':
        this.#unsubscribing.set(packet.messageId!, packet.unsubscriptions.length)
        for (const filter of packet.unsubscriptions) this.#subscribed.delete(filter)
        this.#pass({ cmd: 'unsubscribe', messageId: packet.messageId!, unsubscriptions: packet.unsubscriptions })
        break
      case 'publish':
        this.#refusePublish(packet.topic, packet.qos, packet.messageId)
        break
      case 'pubrec':
        // The client has refused the message: no more of it comes.
        if ((packet.reasonCode ?? 0) < SUBSCRIPTION_REFUSED) this.#pass({ cmd: 'pubrec', messageId: packet.messageId! })
        break
      case 'puback':
      case 'pubcomp':
      case 'pubrel':
        this.#pass({ cmd: packet.cmd, messageId: packet.messageId! })
        break
      case 'pingreq':
      case 'disconnect':
        this.#pass({ cmd: packet.cmd })
        break
      default:
        this.#end({ cmd: 'disconnect', reasonCode: REASONS.protocolError })
    }
  }

  #connecting(packet: IConnectPacket): void {
    if (packet.properties?.authenticationMethod !== undefined) {
      const properties = { reasonString: 'enhanced authentication is not supported: send the key as the password' }
      this.#end({ cmd: 'connack', sessionPresent: false, reasonCode: REASONS.badMethod, properties })
      return
    }
    this.#connect = packet
    if (packet.clientId === '') this.#assignedId = `xqueue-${randomUUID()}`
    const { keepalive = 0, username, password, will } = packet
    const login = password ? { username: username ?? '', password } : username === undefined ? {} : { username }
    this.#pass({
      cmd: 'connect',
      protocolId: 'MQTT',
      protocolVersion: 4,
      clean: true,
      clientId: this.#assignedId ?? packet.clientId,
      keepalive,
      ...login,
      ...(will ? { will: { topic: will.topic, payload: will.payload, qos: will.qos ?? 0, retain: false } } : {}),
    })
  }

  #subscribing({ messageId, subscriptions }: ISubscribePacket): void {
    for (const { topic, rh = 0 } of subscriptions) {
      const hasHad = rh === STATES_OF_NEW_ONLY && this.#subscribed.has(topic)
      if (rh === NEVER_STATES || hasHad) this.#withoutStates.add(topic)
      else this.#withoutStates.delete(topic)
      this.#subscribed.add(topic)
    }
    if (this.#subscribed.size > this.#options.filtersMax) this.destroy(new Error('too many subscriptions'))
    const plain = subscriptions.map(({ topic, qos }) => ({ topic, qos }))
    this.#pass({ cmd: 'subscribe', messageId: messageId!, subscriptions: plain })
  }

  #refusePublish(topic: string, qos: number, messageId: number | undefined): void {
    this.#options.onRefusedPublish(topic)
    if (qos === 0) return
    const properties = { reasonString: 'only the server can publish' }
    const cmd = qos === 1 ? 'puback' : 'pubrec'
    this.#send({ cmd, messageId: messageId!, reasonCode: REASONS.notAuthorized, properties } as Packet)
    this.#flush()
  }

  /** To the client, in the form of MQTT 5. */
  #send(packet: Packet): void {
    const sent = this.#translated(packet)
    const bytes = mqttPacket.generate(sent, { protocolVersion: 5 })
    // Larger ones it may not be sent, and must do without.
    if (bytes.length <= (this.#connect?.properties?.maximumPacketSize ?? bytes.length)) this.#outgoing.push(bytes)
  }

  #translated(packet: Packet): Packet {
    switch (packet.cmd) {
      case 'connack': {
        const [reasonCode, reasonString] = CONNACK_REASONS[packet.returnCode ?? 0] ?? [SUBSCRIPTION_REFUSED, 'refused']
        const properties = reasonCode === 0 ? this.#terms() : { reasonString }
        return { cmd: 'connack', sessionPresent: false, reasonCode, properties }
      }
      case 'suback': {
        const codes = packet.granted as number[]
        const granted = codes.map((code) => (code === SUBSCRIPTION_REFUSED ? REASONS.notAuthorized : code))
        return { cmd: 'suback', messageId: packet.messageId!, granted } as Packet
      }
      case 'unsuback': {
        const count = this.#unsubscribing.get(packet.messageId!) ?? 1
        this.#unsubscribing.delete(packet.messageId!)
        const granted = Array.from({ length: count }, () => 0)
        return { cmd: 'unsuback', messageId: packet.messageId!, granted } as Packet
      }
      case 'pubrel':
        return { cmd: 'pubrel', messageId: packet.messageId!, reasonCode: 0 }
      default:
        return packet
    }
  }

  /** What is different here from what a client may take for granted. */
  #terms() {
    return {
      sessionExpiryInterval: 0,
      retainAvailable: false,
      maximumPacketSize: this.#options.receivedBytesMax,
      subscriptionIdentifiersAvailable: false,
      sharedSubscriptionAvailable: false,
      ...(this.#assignedId === undefined ? {} : { assignedClientIdentifier: this.#assignedId }),
    }
  }

  #end(packet: Packet): void {
    this.stream.end(mqttPacket.generate(packet, { protocolVersion: 5 }))
  }
}

/** What the parser holds of a packet that has not come as a whole. */
function pendingBytes(parser: Parser): number {
  return (parser as unknown as { _list: { length: number } })._list.length
}
