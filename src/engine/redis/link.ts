import {
  ClientClosedError,
  ClientOfflineError,
  createClient,
  createCluster,
  createSentinel,
  ErrorReply,
} from '@redis/client'
import { XQueueError } from '../../task/errors.ts'
import { type Library, loadLibrary, type StepName } from './library.ts'
import type { RedisPlace } from './place.ts'

/** What a step answers: texts, numbers, and lists of them. */
export type Reply = string | number | null | Reply[]

/** While Redis is away, calls wait this long before they fail. */
const AWAY_MS_MAX = 5_000
/** A connection over which a call is not answered for this long is taken for dead and replaced. */
const SILENT_MS_MAX = 5_000
const RECONNECT_MS_MAX = 500
/** Shows that an idle connection lives. */
const PING_MS = 10_000

/** Answers that say that nothing was done, and that it may go well in a moment. */
const COMES_BACK = /^(LOADING|READONLY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|BUSY|NOREPLICAS)/

/** What single nodes, clusters and sentinels have in common. */
interface Client {
  connect(): Promise<unknown>
  destroy(): void
  fCall(name: string, options: { keys: string[]; arguments: string[] }): Promise<unknown>
  eval(script: string, options: { keys: string[]; arguments: string[] }): Promise<unknown>
  subscribe(channel: string, listener: (message: string) => unknown): Promise<unknown>
  on(event: string, listener: (value: Error) => void): unknown
  sendCommand?: unknown
}

/**
 * The connections to Redis: one for steps and one for what is published. A call waits while Redis is away and fails
 * after a bound. A connection that goes silent is replaced, whether the network said that it was gone or not.
 *
 * A step whose answer was lost may have run: it fails, and its caller decides whether to call again.
 */
export class Link {
  readonly #place: RedisPlace
  readonly #library: Library
  readonly #restored: () => void
  #commands: Promise<Client> | undefined
  #subscriber: Promise<Client> | undefined
  readonly #listeners = new Map<string, (message: string) => void>()
  readonly #underWay = new Set<Promise<unknown>>()
  #lastError: Error | undefined
  #closed = false

  /** @param restored is called when published messages may have been missed */
  constructor(place: RedisPlace, restored: () => void) {
    this.#place = place
    this.#library = loadLibrary(place)
    this.#restored = restored
  }

  /** @throws XQueueError `engine_unavailable` | `engine_unusable` */
  async open(): Promise<void> {
    try {
      const client = await this.#client()
      await this.#bounded(client.eval('return 1', { keys: [], arguments: [] }))
      const version = /redis_version:(\S+)/.exec(await this.info('server'))?.[1]
      if (version !== undefined && Number.parseInt(version, 10) < 7) {
        const detail = `Redis at ${whereOf(this.#place)} has version ${version}: XQueue needs 7.0 or newer`
        throw new XQueueError('engine_unusable', detail)
      }
    } catch (error) {
      throw this.#failure(error)
    }
  }

  /** Runs a step on the partition that `prefix` begins the keys of. @throws XQueueError `engine_unavailable` */
  async run<Answer extends Reply>(step: StepName, prefix: string, args: string[]): Promise<Answer> {
    const until = performance.now() + AWAY_MS_MAX
    for (let pauseMs = 5; ; pauseMs = Math.min(pauseMs * 2, RECONNECT_MS_MAX)) {
      try {
        return (await this.#tracked(this.#call(step, { keys: [prefix], arguments: args }))) as Answer
      } catch (error) {
        if (this.#closed) throw new XQueueError('shutting_down', 'the engine was closed: this process is shutting down')
        if (!this.#wasNotRun(error) || performance.now() + pauseMs > until) throw this.#failure(error)
      }
      await new Promise((resolve) => setTimeout(resolve, pauseMs))
    }
  }

  /** Listens to a channel, over reconnects. */
  async subscribe(channel: string, listener: (message: string) => void): Promise<void> {
    this.#listeners.set(channel, listener)
    const client = await this.#subscriberClient()
    await client.subscribe(channel, listener)
  }

  /** INFO of the node, or of any one of a cluster. */
  async info(section: string): Promise<string> {
    return String(await this.#command(undefined, ['INFO', section]))
  }

  /** Lets what is under way end, then disconnects. */
  async close(): Promise<void> {
    this.#closed = true
    await Promise.allSettled(this.#underWay)
    for (const client of [this.#commands, this.#subscriber]) {
      client?.then(
        (open) => open.destroy(),
        () => undefined, // It never opened.
      )
    }
  }

  #tracked<T>(call: Promise<T>): Promise<T> {
    this.#underWay.add(call)
    const forget = () => this.#underWay.delete(call)
    call.then(forget, forget)
    return call
  }

  async #call(step: StepName, options: { keys: string[]; arguments: string[] }): Promise<unknown> {
    const client = await this.#client()
    const name = this.#library.functionOf(step)
    try {
      return await this.#bounded(client.fCall(name, options))
    } catch (error) {
      // A node that has not seen this version yet, or whose functions were flushed.
      if (!(error instanceof ErrorReply && error.message.includes('Function not found'))) throw error
      await this.#load(options.keys[0]!)
      return this.#bounded(client.fCall(name, options))
    }
  }

  /** Loads the library on the node that has a key. */
  async #load(key: string): Promise<void> {
    try {
      await this.#command(key, ['FUNCTION', 'LOAD', this.#library.text])
    } catch (error) {
      // Another process was faster.
      if (!(error instanceof ErrorReply && error.message.includes('already exists'))) throw error
    }
  }

  /** Any command, on the node that has a key; in a cluster undefined is any node. */
  async #command(key: string | undefined, command: string[]): Promise<unknown> {
    const client = (await this.#client()) as unknown as { sendCommand(...args: unknown[]): Promise<unknown> }
    switch (this.#place.kind) {
      case 'single':
        return this.#bounded(client.sendCommand(command))
      case 'cluster':
        return this.#bounded(client.sendCommand(key, false, command))
      case 'sentinel':
        return this.#bounded(client.sendCommand(false, command))
    }
  }

  #client(): Promise<Client> {
    this.#commands ??= this.#connect(() => {
      this.#commands = undefined
    })
    return this.#commands
  }

  async #subscriberClient(): Promise<Client> {
    if (!this.#subscriber) {
      this.#subscriber = this.#connect(() => {
        this.#subscriber = undefined
      })
      const client = await this.#subscriber
      client.on('ready', () => this.#restored())
    }
    return this.#subscriber
  }

  #connect(failed: () => void): Promise<Client> {
    const client = makeClient(this.#place)
    // Every failure reaches the calls that it fails; the rest is tried again.
    client.on('error', (error) => {
      this.#lastError = error
    })
    const connected = client.connect().then(() => client)
    return this.#bounded(connected).catch((error: unknown) => {
      failed()
      client.destroy()
      throw error
    })
  }

  /** Waits for an answer; a connection that gives none is replaced. */
  async #bounded<T>(answer: Promise<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined
    const silence = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new SilentError()), SILENT_MS_MAX)
    })
    try {
      return await Promise.race([answer, silence])
    } catch (error) {
      if (error instanceof SilentError) this.#replace()
      throw error
    } finally {
      clearTimeout(timer)
    }
  }

  #replace(): void {
    const old = this.#commands
    this.#commands = undefined
    old?.then(
      (client) => client.destroy(),
      () => undefined,
    )
  }

  #wasNotRun(error: unknown): boolean {
    if (error instanceof ErrorReply) return COMES_BACK.test(error.message)
    if (error instanceof ClientOfflineError || error instanceof ClientClosedError) return true
    return ['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN'].includes((error as NodeJS.ErrnoException).code ?? '')
  }

  #failure(error: unknown): XQueueError {
    if (error instanceof XQueueError) return error
    const because = messageOf(
      error instanceof SilentError || !(error instanceof Error) ? (this.#lastError ?? error) : error,
    )
    if (error instanceof ErrorReply && !COMES_BACK.test(because)) {
      const remedy = remedyOf(because)
      if (!remedy) return new XQueueError('internal', `Redis answered: ${because}`, {}, { cause: error })
      return new XQueueError('engine_unavailable', `${remedy} (${because})`, { retry_after: 1 }, { cause: error })
    }
    const detail = `Redis at ${whereOf(this.#place)} cannot be reached, or its answer was lost on the way (${because})`
    return new XQueueError('engine_unavailable', detail, { retry_after: 1 }, { cause: error })
  }
}

/** Node tells of several addresses that failed in an error without a message. */
function messageOf(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(messageOf).join('; ')
  return error instanceof Error ? error.message || error.name : String(error)
}

class SilentError extends Error {
  constructor() {
    super(`no answer for ${SILENT_MS_MAX / 1_000} s`)
  }
}

function makeClient(place: RedisPlace): Client {
  const { kind, nodes, tls, username, password, database, master } = place
  const socket = {
    connectTimeout: SILENT_MS_MAX,
    reconnectStrategy: (tries: number) => Math.min(10 * 2 ** tries, RECONNECT_MS_MAX),
    ...(tls ? { tls: true as const } : {}),
  }
  const options = {
    RESP: 2 as const,
    disableOfflineQueue: true,
    pingInterval: PING_MS,
    socket,
    ...(username ? { username } : {}),
    ...(password ? { password } : {}),
  }
  switch (kind) {
    case 'single':
      return createClient({ ...options, database, socket: { ...socket, ...nodes[0]! } }) as unknown as Client
    case 'cluster':
      return createCluster({
        rootNodes: nodes.map((node) => ({ socket: node })),
        defaults: options,
        topologyRefreshOnReconnectionAttemptStrategy: RECONNECT_MS_MAX,
        RESP: 2,
      }) as unknown as Client
    case 'sentinel':
      return createSentinel({
        name: master,
        sentinelRootNodes: nodes,
        nodeClientOptions: { ...options, database } as never,
        RESP: 2,
      }) as unknown as Client
  }
}

/** What a refusal of Redis means, and the way out; undefined for one that nobody should see. */
function remedyOf(because: string): string | undefined {
  const remedies: [RegExp, string][] = [
    [/OOM/, 'Redis has no memory left: raise maxmemory, or let the queue drain'],
    [/MISCONF/, 'Redis cannot write to its disk: make room, or see its log'],
    [/NOAUTH|WRONGPASS|AUTH/, 'Redis refuses the user or the password: mend the URL'],
    [/NOPERM/, 'the Redis user may not do this: allow it all commands on the keys and channels of the prefix'],
    [/MOVED|ASK|CROSSSLOT/, 'this Redis is part of a cluster: write redis+cluster:// in the URL'],
    [/max number of clients/, 'Redis takes no more connections: raise maxclients'],
  ]
  return remedies.find(([pattern]) => pattern.test(because))?.[1]
}

export function whereOf({ nodes }: RedisPlace): string {
  return nodes.map(({ host, port }) => `${host}:${port}`).join(', ')
}
