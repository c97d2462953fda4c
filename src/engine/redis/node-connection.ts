import { readFileSync } from 'node:fs'
import { createClient, ErrorReply } from '@redis/client'
import { SilentError, UnreachedError } from './failures.ts'
import type { Node, RedisUrl } from './redis-url.ts'

/** An idle connection is tried so often, in units of the longest wait for an answer. */
const PING_AFTER = 2
/** Its life is looked at so often within that wait. */
const LOOKS = 4

/**
 * One connection to one node: open from `open` until it is lost, and never again. Nothing reconnects by itself here,
 * so whoever holds a connection knows what it is connected to. One that gives no answer to something asked, or to a
 * ping when nothing was, is ended like one that the network says is gone.
 */
export class NodeConnection {
  readonly node: Node
  readonly #client: ReturnType<typeof clientOf>
  readonly #waitMs: number
  readonly #lost = Promise.withResolvers<never>()
  readonly #onLost: (why: Error) => void
  readonly #checks: NodeJS.Timeout
  #unanswered = 0
  /** When the last answer came, or when the first of those that wait for one was asked. */
  #heardAt = performance.now()
  #lookedAt = performance.now()
  #wasOpen = false
  #lostBecause: Error | undefined

  /**
   * @param onLost is called once, when an open connection ends, whoever ends it
   * @throws UnreachedError, or what the node answered
   */
  static async open(place: RedisUrl, node: Node, onLost: (why: Error) => void): Promise<NodeConnection> {
    const connection = new NodeConnection(place, node, onLost)
    try {
      await connection.#connect()
      // The network may accept for a node that does not answer.
      await connection.send(['PING'])
      connection.#wasOpen = true
      return connection
    } catch (error) {
      connection.end(error as Error)
      // Nothing of anybody's was sent so far.
      throw error instanceof ErrorReply || error instanceof UnreachedError ? error : new UnreachedError(error as Error)
    }
  }

  private constructor(place: RedisUrl, node: Node, onLost: (why: Error) => void) {
    this.node = node
    this.#waitMs = place.waitMs
    this.#onLost = onLost
    this.#client = clientOf(place, node)
    this.#client.on('error', (error: Error) => this.end(error))
    this.#lost.promise.catch(() => undefined) // Who waits for something here is told.
    this.#checks = setInterval(() => this.#check(), place.waitMs / LOOKS)
    this.#checks.unref()
  }

  get isOpen(): boolean {
    return this.#lostBecause === undefined
  }

  async send(command: readonly string[]): Promise<unknown> {
    if (this.#lostBecause) throw new UnreachedError(this.#lostBecause)
    this.#asked()
    try {
      return await this.#client.sendCommand(command as string[])
    } catch (error) {
      throw (this.#lostBecause as Error | undefined) ?? error
    } finally {
      this.#answered()
    }
  }

  async subscribe(channel: string, listener: (message: string) => void): Promise<void> {
    if (this.#lostBecause) throw new UnreachedError(this.#lostBecause)
    this.#asked()
    try {
      await Promise.race([this.#client.subscribe(channel, listener), this.#lost.promise])
    } finally {
      this.#answered()
    }
  }

  /** Asks for a sign of life now, whatever was heard when. */
  check(): void {
    this.send(['PING']).catch(() => undefined)
  }

  end(why: Error): void {
    if (this.#lostBecause) return
    this.#lostBecause = why
    clearInterval(this.#checks)
    this.#client.destroy()
    this.#lost.reject(why)
    if (this.#wasOpen) this.#onLost(why)
  }

  async #connect(): Promise<void> {
    this.#asked()
    try {
      await Promise.race([this.#client.connect(), this.#lost.promise])
    } finally {
      this.#answered()
    }
  }

  #asked(): void {
    if (this.#unanswered === 0) this.#heardAt = performance.now()
    this.#unanswered += 1
  }

  #answered(): void {
    this.#unanswered -= 1
    this.#heardAt = performance.now()
  }

  #check(): void {
    const now = performance.now()
    const sinceLook = now - this.#lookedAt
    this.#lookedAt = now
    if (sinceLook > this.#waitMs / 2) {
      // This process stood still: what came meanwhile has not been read yet.
      this.#heardAt = now
    } else if (this.#unanswered > 0) {
      if (now - this.#heardAt >= this.#waitMs) this.end(new SilentError(this.#waitMs))
    } else if (now - this.#heardAt >= this.#waitMs * PING_AFTER) this.check()
  }
}

/** Making a client's class takes far longer than making a client: all are made after this one. */
let template: ReturnType<typeof createClient> | undefined

function clientOf({ tls, username, password, database, waitMs, files }: RedisUrl, { host, port, plain }: Node) {
  const read = (file: string | undefined) => (file === undefined ? undefined : readFileSync(file))
  const secure = { tls: true as const, ca: read(files.ca), cert: read(files.cert), key: read(files.key) }
  const socket = { host, port, connectTimeout: waitMs, reconnectStrategy: false as const }
  template ??= createClient()
  return template.duplicate({
    RESP: 2,
    disableOfflineQueue: true,
    // Each would need to be allowed to the user, and is of no use here.
    disableClientInfo: true,
    maintNotifications: 'disabled',
    // A timer for each command costs; silence is looked for once for all of them.
    commandOptions: { timeout: 0 },
    socket: tls ? { ...socket, ...secure } : socket,
    ...(plain ? {} : { database }),
    ...(username && !plain ? { username } : {}),
    ...(password && !plain ? { password } : {}),
  })
}
