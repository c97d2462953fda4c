import { readFileSync } from 'node:fs'
import { createClient, ErrorReply } from '@redis/client'
import { SilentError, UnreachedError } from './failures.ts'
import type { Node, RedisUrl } from './redis-url.ts'

/** An idle connection is tested at this interval, in units of the longest wait for an answer. */
const PING_AFTER = 2
/** Number of checks of the connection within that wait. */
const CHECKS = 4

/**
 * One connection to one node: open from `open` until it is lost, and never reopened. It does not reconnect by itself,
 * so the owner of a connection always knows its node. A connection without an answer to a command, or to a ping while
 * idle, is closed like one that the network reports as lost.
 */
export class NodeConnection {
  readonly node: Node
  readonly #client: ReturnType<typeof clientOf>
  readonly #waitMs: number
  readonly #lost = Promise.withResolvers<never>()
  readonly #onLost: (why: Error) => void
  readonly #checks: NodeJS.Timeout
  #unanswered = 0
  /** The time of the last answer, or of the first of the commands that wait for one. */
  #answeredAt = performance.now()
  #checkedAt = performance.now()
  #wasOpen = false
  #lostBecause: Error | undefined

  /**
   * @param onLost is called once, when an open connection ends for any reason
   * @throws UnreachedError, or the error answer of the node
   */
  static async open(url: RedisUrl, node: Node, onLost: (why: Error) => void): Promise<NodeConnection> {
    const connection = new NodeConnection(url, node, onLost)
    try {
      await connection.#connect()
      // The network may accept a connection for a node that does not answer.
      await connection.send(['PING'])
      connection.#wasOpen = true
      return connection
    } catch (error) {
      connection.end(error as Error)
      // No command has been sent so far.
      throw error instanceof ErrorReply || error instanceof UnreachedError ? error : new UnreachedError(error as Error)
    }
  }

  private constructor(url: RedisUrl, node: Node, onLost: (why: Error) => void) {
    this.node = node
    this.#waitMs = url.waitMs
    this.#onLost = onLost
    this.#client = clientOf(url, node)
    this.#client.on('error', (error: Error) => this.end(error))
    this.#lost.promise.catch(() => undefined) // Callers that wait on it receive the error.
    this.#checks = setInterval(() => this.#check(), url.waitMs / CHECKS)
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

  /** Sends a ping now, regardless of the last answer. */
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
    if (this.#unanswered === 0) this.#answeredAt = performance.now()
    this.#unanswered += 1
  }

  #answered(): void {
    this.#unanswered -= 1
    this.#answeredAt = performance.now()
  }

  #check(): void {
    const now = performance.now()
    const sinceCheck = now - this.#checkedAt
    this.#checkedAt = now
    if (sinceCheck > this.#waitMs / 2) {
      // This process was paused: answers that arrived meanwhile have not been read yet.
      this.#answeredAt = now
    } else if (this.#unanswered > 0) {
      if (now - this.#answeredAt >= this.#waitMs) this.end(new SilentError(this.#waitMs))
    } else if (now - this.#answeredAt >= this.#waitMs * PING_AFTER) this.check()
  }
}

/** Creating a client's class takes far longer than creating a client: all are duplicated from this one. */
let template: ReturnType<typeof createClient> | undefined

function clientOf({ tls, username, password, database, waitMs, files }: RedisUrl, { host, port, plain }: Node) {
  const read = (file: string | undefined) => (file === undefined ? undefined : readFileSync(file))
  const secure = { tls: true as const, ca: read(files.ca), cert: read(files.cert), key: read(files.key) }
  const socket = { host, port, connectTimeout: waitMs, reconnectStrategy: false as const }
  template ??= createClient()
  return template.duplicate({
    RESP: 2,
    disableOfflineQueue: true,
    // The user would need a permission for each, and they have no use here.
    disableClientInfo: true,
    maintNotifications: 'disabled',
    // A timer for each command is expensive; one check detects silence for all commands.
    commandOptions: { timeout: 0 },
    socket: tls ? { ...socket, ...secure } : socket,
    ...(plain ? {} : { database }),
    ...(username && !plain ? { username } : {}),
    ...(password && !plain ? { password } : {}),
  })
}
