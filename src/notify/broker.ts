import type { IncomingMessage, Server } from 'node:http'
import { type AddressInfo, createServer, type Socket, type Server as TcpServer } from 'node:net'
import type { Duplex } from 'node:stream'
import { createServer as createTlsServer, type Server as TlsServer } from 'node:tls'
import { Aedes, type Client } from 'aedes'
import { createWebSocketStream, WebSocketServer } from 'ws'
import { ClientAuthorization } from './client-authorization.ts'
import { EventPublisher } from './event-publisher.ts'
import type { Live, LiveOptions } from './live.ts'
import { MessageViews } from './message-views.ts'
import { Mqtt5, whenVersionKnown } from './mqtt5.ts'
import { RetainedStates } from './retained-state.ts'
import type { State } from './snapshots.ts'
import { Subscribers } from './subscribers.ts'
import { Topics } from './topics.ts'

export const PATH = '/mqtt'
export const BROKER_LIMITS = {
  clients: 10_000,
  /** Filters of each. */
  filters: 1_000,
  /** Clients only subscribe: nothing that they send is long. */
  receivedBytes: 64 * 1024,
  /** A subscriber that reads nothing for this long is disconnected, because others would wait for it. */
  drainMs: 5_000,
  /** A connection must say who it is within this. */
  connectMs: 10_000,
} as const

/** Where dropped messages go: no filter under the prefix fits it. */
const NOWHERE = '$refused'
const TOPIC_CHARS_SHOWN = 200

/**
 * The embedded broker: MQTT 5 and 3.1.1 over TCP and, at `/mqtt` of the HTTP server, over WebSocket. Clients may
 * subscribe to what lies under the prefix; only the server publishes. It keeps no sessions and no retained messages: a
 * subscriber gets the present state from the store. Each process that embeds one serves its own subscribers.
 */
export class EmbeddedBroker implements Live {
  readonly webSocketPath = PATH
  readonly subscribeAt: Live['subscribeAt']
  readonly #options: LiveOptions
  readonly #topics: Topics
  readonly #retained: RetainedStates
  readonly #views: MessageViews
  readonly #aedes: Aedes
  readonly #tcp: TcpServer
  readonly #authorization: ClientAuthorization | null
  readonly #sockets = new WebSocketServer({
    noServer: true,
    maxPayload: BROKER_LIMITS.receivedBytes,
    handleProtocols: (offered) => [...offered].find((name) => name.startsWith('mqtt')) ?? false,
  })
  readonly #subscribers: Subscribers
  readonly #publisher: EventPublisher
  /** Connections whose publishing was logged. */
  readonly #publishers = new WeakSet<Duplex>()
  #detail = 'not started'
  #leaveServer: () => void = () => undefined

  constructor(options: LiveOptions) {
    const { queue, prefix, publicUrl: url = null, tls, admit } = options
    this.#options = options
    this.subscribeAt = { url, prefix }
    this.#tcp = tls ? createTlsServer(tls.pair) : createServer()
    tls?.follow(this.#tcp as TlsServer)
    this.#authorization = admit ? new ClientAuthorization(admit, (client) => this.#subscribers.countOf(client)) : null
    this.#topics = new Topics(prefix)
    this.#subscribers = new Subscribers(BROKER_LIMITS.drainMs, (filter) => this.#topics.loggedTaskOf(filter))
    this.#views = new MessageViews(queue, (client) => this.#authorization?.authorizationOf(client))
    this.#retained = new RetainedStates(queue, this.#topics)
    const { drainMs: drainTimeout } = BROKER_LIMITS
    this.#aedes = new Aedes({
      drainTimeout,
      connectTimeout: BROKER_LIMITS.connectMs,
      maxTopicLevels: 16,
      persistence: this.#retained.persistence(),
    })
    this.#publisher = new EventPublisher(options, this.#topics, {
      isHeard: (topic) => this.#subscribers.isHeard(topic),
      subscriptionsTo: (shape) => this.#subscribers.subscriptionsTo(shape),
      publish: (messages) =>
        this.#subscribers.deliver(messages, options.qos, (client, message) => {
          const shown = this.#views.shown(client, message)
          return shown && this.#retained.passes(client, shown) ? shown : null
        }),
      prepare: (events) => this.#views.prepare(events, this.#subscribers.clients),
      followed: () => this.#subscribers.followed,
      tenants: () => this.#views.tenantsOf(this.#subscribers.clients),
      missed: () => {
        options.logger.warn(
          'events were deleted before they were published: subscribers are disconnected, so that they read again',
        )
        this.#subscribers.cutOff('the client has missed changes')
      },
    })
    this.#setRules()
  }

  async start(server: Server | null): Promise<void> {
    const { host, port, backlog, logger, tls, newcomers } = this.#options
    await this.#aedes.listen()
    const upgrade = (request: IncomingMessage, socket: Socket, head: Buffer) => this.#upgrade(request, socket, head)
    server?.on('upgrade', upgrade)
    this.#leaveServer = () => server?.off('upgrade', upgrade)
    this.#tcp.on('connection', (socket: Socket) => newcomers?.add(socket, Boolean(tls)))
    if (tls) this.#tcp.on('tlsClientError', (_error, socket) => socket.destroy())
    this.#tcp.on(tls ? 'secureConnection' : 'connection', (socket: Socket) => {
      newcomers?.secured(socket)
      this.#handle(socket)
    })
    const failed = await new Promise<NodeJS.ErrnoException | null>((resolve) => {
      this.#tcp.once('error', resolve)
      this.#tcp.listen({ port, host, backlog }, () => resolve(null))
    })
    if (failed) {
      const why = failed.code === 'EADDRINUSE' ? `port ${port} is in use` : `port ${port}: ${failed.message}`
      this.#detail = `WebSocket at ${PATH} only: ${why}`
      const remedy = 'choose another port with --mqtt-port, or use the broker on this port with --mqtt mqtt://…'
      logger.warn({ host, port }, `no MQTT over TCP: ${why}; only WebSocket at ${PATH}: ${remedy}`)
    } else {
      const { port: listening } = this.#tcp.address() as AddressInfo
      const mqtt = `${tls ? 'mqtts' : 'mqtt'}://${host}:${listening}`
      this.#detail = `embedded broker at ${mqtt}, WebSocket at ${PATH}`
      logger.info({ mqtt, websocket: PATH }, 'status over MQTT')
    }
    this.#tcp.on('error', (error) => logger.warn({ err: error }, 'the MQTT port failed'))
  }

  check() {
    return { name: 'mqtt', ok: true, detail: this.#detail }
  }

  async stop(): Promise<void> {
    this.#leaveServer() // From here on, the server itself answers those that want to open a WebSocket.
    await this.#publisher.stop()
    await new Promise<void>((resolve) => this.#aedes.close(resolve))
    this.#sockets.close()
    this.#options.newcomers?.closeUnused()
    if (this.#tcp.listening) await new Promise((resolve) => this.#tcp.close(resolve))
  }

  #setRules(): void {
    const aedes = this.#aedes
    aedes.preConnect = (_client, packet, done) => {
      packet.clean = true // Told to the client: no session is present. Nothing is kept for who is not there.
      const full = aedes.connectedClients >= BROKER_LIMITS.clients
      done(full ? new Error(`the broker has ${BROKER_LIMITS.clients} clients, the maximum`) : null, !full)
    }
    const authorization = this.#authorization
    if (authorization)
      aedes.authenticate = (client, _user, password, done) => authorization.admit(client, password, done)
    // MQTT 3.1.1 has no refusal of a publish: it is acknowledged and dropped, since a client whose connection were cut
    // would connect and publish again and again. No client can subscribe to the topic that it goes to.
    aedes.authorizePublish = (client, packet, done) => {
      if (client) this.#refusedPublish(client.conn, packet.topic)
      Object.assign(packet, { topic: NOWHERE, payload: Buffer.alloc(0), retain: false })
      done(null)
    }
    aedes.authorizeSubscribe = (client, subscription, done) => {
      const { topic, qos } = subscription
      const allowed =
        this.#topics.allows(topic) && (authorization === null || authorization.maySubscribe(client, topic))
      if (!allowed || this.#subscribers.countOf(client) >= BROKER_LIMITS.filters) {
        done(null, null) // The acknowledgement says that it is refused.
        return
      }
      // The place in the outbox is fixed before the subscription is acknowledged: nothing after that is missed.
      this.#publisher.open().then(
        () => {
          if (client.closed) return
          this.#retained.expect(client, topic)
          this.#subscribers.add(client, topic, qos)
          done(null, subscription)
        },
        (error: Error) => done(error),
      )
    }
    aedes.on('subscribe', (subscriptions, client) => {
      const { conn } = client
      const wants = (filter: string) => !(conn instanceof Mqtt5) || conn.wantsStates(filter)
      const granted = subscriptions.filter(({ topic, qos }) => qos <= 2 && wants(topic)).map(({ topic }) => topic)
      void this.#sendStates(client, granted)
    })
    aedes.on('unsubscribe', (filters, client) => {
      for (const filter of filters) this.#subscribers.remove(client, filter)
      if (this.#subscribers.isEmpty) this.#publisher.close()
    })
    // Authenticated by now, or access control is off.
    aedes.on('clientReady', ({ conn, req }) => {
      const socket = (conn instanceof Mqtt5 ? conn.stream : conn) as Socket
      this.#options.newcomers?.admit(req ? req.socket : socket)
    })
    aedes.on('clientDisconnect', (client) => this.#forget(client))
    const refused = (client: Client, error: Error) => {
      this.#forget(client)
      this.#options.logger.debug({ client: client.id, because: error.message }, 'an MQTT client was disconnected')
    }
    aedes.on('clientError', refused)
    aedes.on('connectionError', refused)
  }

  async #sendStates(client: Client, filters: readonly string[]): Promise<void> {
    const { qos, logger } = this.#options
    const shown = (state: State) => {
      const seen = this.#views.shownState(client, state)
      return seen && this.#retained.passesAsState(client, seen) ? seen : null
    }
    try {
      await this.#subscribers.sendStates(client, this.#retained.states(filters), qos, shown)
    } catch (error) {
      logger.warn({ err: error }, 'a subscriber did not receive the current states')
      client.conn.destroy()
    }
  }

  /** Told once of each connection: a client may publish many times a second. */
  #refusedPublish(stream: Duplex, topic: string): void {
    if (this.#publishers.has(stream)) return
    this.#publishers.add(stream)
    const { logger, prefix } = this.#options
    const remedy = `only the server can publish under ${prefix}/, so messages of this client are dropped`
    logger.warn({ topic: topic.slice(0, TOPIC_CHARS_SHOWN).toWellFormed() }, `an MQTT client publishes: ${remedy}`)
  }

  #forget(client: Client): void {
    this.#subscribers.forget(client)
    if (this.#subscribers.isEmpty) this.#publisher.close()
  }

  #handle(stream: Duplex, request?: IncomingMessage): void {
    // A connection that is reset before another listener exists must not crash the process.
    stream.on('error', () => stream.destroy())
    whenVersionKnown(stream, BROKER_LIMITS.connectMs, (version) => {
      const options = {
        receivedBytesMax: BROKER_LIMITS.receivedBytes,
        filtersMax: 2 * BROKER_LIMITS.filters,
        onRefusedPublish: (topic: string) => this.#refusedPublish(stream, topic),
      }
      this.#handleFromHere(version === 5 ? new Mqtt5(stream, options) : stream, request)
    })
  }

  #handleFromHere(stream: Duplex, request?: IncomingMessage): void {
    const client = this.#aedes.handle(stream, request)
    // Behind Aedes's own listener: what it has read is in its parser, and what is left there is of one packet.
    stream.on('readable', () => {
      if (unfinishedBytes(client) <= BROKER_LIMITS.receivedBytes) return
      this.#options.logger.debug({ client: client.id }, 'an MQTT client was disconnected: its packet is too long')
      stream.destroy()
    })
  }

  #upgrade(request: IncomingMessage, socket: Socket, head: Buffer): void {
    const refuse = (status: string) =>
      socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`)
    socket.on('error', () => socket.destroy())
    if (!this.#isWelcome(request)) {
      const { origin } = request.headers
      this.#options.logger.warn({ origin }, 'a page of another site was refused: allow its origin with --mqtt-origins')
      return void refuse('403 Forbidden')
    }
    this.#sockets.handleUpgrade(request, socket, head, (client) => this.#handle(createWebSocketStream(client), request))
  }

  /**
   * A page of any other site could read messages through the browser of a user who can reach this server. Programs send
   * no origin. Files send `null`, but any site can make a frame send it as well.
   */
  #isWelcome({ headers: { origin, host } }: IncomingMessage): boolean {
    const { origins, servesHost } = this.#options
    if (servesHost && !servesHost(host)) return false
    if (origin === undefined || origins.includes('*') || origins.includes(origin)) return true
    const parsed = URL.parse(origin)
    if (!parsed) return false
    // Pages of this machine are allowed only if --mqtt-origins is not set.
    const isLocal = ['localhost', '127.0.0.1', '[::1]'].includes(parsed.hostname)
    return parsed.host === host || (isLocal && origins.length === 0)
  }
}

/** Bounds packets, because Aedes would wait for the declared length of up to 256 MB, also before the login. */
function unfinishedBytes(client: Client): number {
  return (client as unknown as { _parser: { _list: { length: number } } })._parser._list.length
}
