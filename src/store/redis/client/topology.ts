import { closedError } from '../../refusals.ts'
import { UnreachedError } from './failures.ts'
import { NodeConnection } from './node-connection.ts'
import type { Node, RedisUrl } from './redis-url.ts'

/** A node that does not answer is skipped after this fraction of the longest wait, while other nodes may know more. */
const PATIENCE = 5

/**
 * The node that serves each partition, and a connection to each of them: the one node of the URL, the master that
 * sentinels name, or the nodes of a cluster by its slots. The topology is read again when it may be out of date.
 */
export class Topology {
  readonly #url: RedisUrl
  readonly #onLost: (why: Error) => void
  readonly #onOpen: () => void
  readonly #open = new Map<string, NodeConnection>()
  readonly #opening = new Map<string, Promise<NodeConnection>>()
  /** By partition. */
  #masters: Node[] | undefined
  #asking: Promise<Node[]> | undefined
  /** Connections that other objects own. */
  readonly #others = new Set<NodeConnection>()
  /** The connection over which a sentinel reports a change of the master. */
  #watch: Promise<NodeConnection> | undefined
  #closed = false

  /** @param onOpen a connection for scripts was opened, @param onLost one was lost */
  constructor(url: RedisUrl, onOpen: () => void, onLost: (why: Error) => void) {
    this.#url = url
    this.#onOpen = onOpen
    this.#onLost = onLost
  }

  /** The open connection to the node of a partition, if there is one. */
  ready(partition: number): NodeConnection | undefined {
    const node = this.#masters?.[partition]
    return node && this.#open.get(keyOf(node))
  }

  /** @throws UnreachedError, or the error answer of a node */
  async connect(partition: number): Promise<NodeConnection> {
    const masters = await this.#known()
    return this.#connection(masters[partition]!)
  }

  /** One connection to each node that serves a partition. */
  async all(): Promise<NodeConnection[]> {
    const nodes = new Map((await this.#known()).map((node) => [keyOf(node), node]))
    return Promise.all([...nodes.values()].map((node) => this.#connection(node)))
  }

  /** A connection of its own, to any node that serves: in a cluster every node publishes all messages. */
  async another(onLost: (why: Error) => void): Promise<NodeConnection> {
    const masters = await this.#known()
    const lost = (why: Error) => {
      this.#others.delete(connection)
      onLost(why)
    }
    const connection = await NodeConnection.open(this.#url, masters[Math.floor(Math.random() * masters.length)]!, lost)
    this.#others.add(connection)
    return connection
  }

  /** The topology may be out of date. */
  doubt(): void {
    if (this.#url.kind !== 'single') this.#masters = undefined
  }

  /** Ends the connection to the node of a partition, which no longer serves it. */
  drop(partition: number, why: Error): void {
    this.ready(partition)?.end(why)
    this.doubt()
  }

  close(): void {
    this.#closed = true
    for (const connection of this.#open.values()) connection.end(closedError())
    this.#watch?.then(
      (connection) => connection.end(closedError()),
      () => undefined, // The connection never opened.
    )
  }

  #connection(node: Node): Promise<NodeConnection> {
    const key = keyOf(node)
    const open = this.#open.get(key)
    if (open) return Promise.resolve(open)
    let opening = this.#opening.get(key)
    if (!opening) {
      opening = this.#connectTo(node).finally(() => this.#opening.delete(key))
      this.#opening.set(key, opening)
    }
    return opening
  }

  async #connectTo(node: Node): Promise<NodeConnection> {
    const key = keyOf(node)
    const lost = (why: Error) => {
      if (this.#open.get(key) !== connection) return
      this.#open.delete(key)
      this.doubt()
      if (!this.#closed) this.#onLost(why)
    }
    let connection: NodeConnection | undefined
    connection = await NodeConnection.open(this.#url, node, lost)
    if (this.#closed) connection.end(closedError())
    else {
      this.#open.set(key, connection)
      this.#onOpen()
    }
    return connection
  }

  async #known(): Promise<Node[]> {
    if (this.#masters) return this.#masters
    this.#asking ??= this.#ask().finally(() => {
      this.#asking = undefined
    })
    this.#masters = await this.#asking
    return this.#masters
  }

  async #ask(): Promise<Node[]> {
    const { kind, nodes, partitions } = this.#url
    if (kind === 'single') return Array.from({ length: partitions }, () => nodes[0]!)
    const asked = new Map<string, Node>()
    // Connected nodes know best; those in the URL may no longer exist, or may be the only ones left.
    for (const { node } of this.#open.values()) asked.set(keyOf(node), node)
    for (const node of nodes) asked.set(keyOf(node), node)
    let last: unknown
    for (const node of asked.values()) {
      try {
        return await soon(this.#url.waitMs / PATIENCE, kind === 'cluster' ? this.#slots(node) : this.#master(node))
      } catch (error) {
        last = error
      }
    }
    throw last
  }

  /** Reads the slots from a node of a cluster. */
  async #slots(node: Node): Promise<Node[]> {
    const connection = await this.#connection(node)
    const ranges = (await connection.send(['CLUSTER', 'SLOTS'])) as [number, number, [string | null, number]][]
    return Array.from({ length: this.#url.partitions }, (_, partition) => {
      const slot = slotOf(String(partition))
      const range = ranges.find(([from, to]) => from <= slot && slot <= to)
      if (!range) throw new UnreachedError(new Error(`no node of the cluster serves slot ${slot}`))
      const [host, port] = range[2]
      // A node that does not know its own name omits it.
      return { host: host === null || host === '' || host === '?' ? node.host : host, port }
    })
  }

  /** Reads the master from a sentinel. */
  async #master(node: Node): Promise<Node[]> {
    const { master, partitions } = this.#url
    const ask = async (plain: boolean) => {
      const sentinel = await NodeConnection.open(this.#url, { ...node, plain }, () => undefined)
      this.#watch ??= this.#watchSentinel({ ...node, plain })
      this.#watch.catch(() => undefined) // The next lookup watches another sentinel.
      try {
        return (await sentinel.send(['SENTINEL', 'GET-MASTER-ADDR-BY-NAME', master])) as [string, string] | null
      } finally {
        sentinel.end(new Error('the sentinel has answered'))
      }
    }
    const answer = await ask(true).catch((error: Error) => {
      if (!error.message.startsWith('NOAUTH')) throw error
      return ask(false)
    })
    if (!answer) throw new UnreachedError(new Error(`the sentinel at ${keyOf(node)} knows no master "${master}"`))
    return Array.from({ length: partitions }, () => ({ host: answer[0], port: Number(answer[1]) }))
  }

  /** The old master may live on for a while and accept data that is lost when it becomes a replica. */
  async #watchSentinel(node: Node): Promise<NodeConnection> {
    const forget = () => {
      this.#watch = undefined
      this.doubt()
    }
    try {
      const connection = await NodeConnection.open(this.#url, node, forget)
      await connection.subscribe('+switch-master', (message) => {
        if (message.split(' ')[0] === this.#url.master) this.#switched()
      })
      if (this.#closed) connection.end(closedError())
      return connection
    } catch (error) {
      forget()
      throw error
    }
  }

  #switched(): void {
    this.doubt()
    const why = new Error('Sentinel has named another master')
    for (const connection of [...this.#open.values(), ...this.#others]) connection.end(why)
  }
}

function keyOf({ host, port }: Node): string {
  return `${host}:${port}`
}

/** @throws UnreachedError when it takes longer */
async function soon<T>(withinMs: number, answer: Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>()
  const timer = setTimeout(() => late.reject(new UnreachedError(new Error('no answer in time'))), withinMs)
  try {
    return await Promise.race([answer, late.promise])
  } finally {
    clearTimeout(timer)
  }
}

/** The hash slot of a tag, as specified for Redis Cluster: CRC16 (XMODEM) modulo the number of slots. */
export function slotOf(tag: string): number {
  let crc = 0
  for (const byte of Buffer.from(tag)) {
    crc ^= byte << 8
    for (let bit = 0; bit < 8; bit++) crc = crc & 0x8000 ? ((crc << 1) ^ 0x1021) & 0xffff : (crc << 1) & 0xffff
  }
  return crc % 16_384
}
