import { Readable } from 'node:stream'
import type { Client } from 'aedes'
import memory from 'aedes-persistence'
import type { Engine } from '../engine/engine.ts'
import { fits, type Message, type Topics, WORKER_STATES } from './topics.ts'

/** A subscriber to all tasks gets the states of this many, the newest; a subscriber to one gets that one. */
export const STATES_MAX = 1_000
/** Its type files describe an older form that is no function. */
const makeMemory = memory as unknown as () => object
const RANKS: Readonly<Record<string, number>> = { pending: 0, processing: 1 }

/**
 * What late subscribers of the embedded broker get at once. Retained messages are not kept: the engine knows the state
 * of each task, so it is asked, and a million tasks cost no memory.
 */
export class LateStates {
  readonly #engine: Engine
  readonly #topics: Topics
  readonly #waiting = new WeakMap<Client, Map<string, { state?: Stamp; passed?: Stamp }>>()

  constructor(engine: Engine, topics: Topics) {
    this.#engine = engine
    this.#topics = topics
  }

  /** For Aedes: keeps nothing for anybody who is not connected, and reads what is retained from the engine. */
  persistence() {
    return Object.assign(makeMemory(), {
      storeRetained: async () => undefined,
      createRetainedStreamCombi: (filters: string[]) => Readable.from(this.#packets(filters)),
      outgoingClearMessageId: async () => undefined,
    })
  }

  /** A client has begun to subscribe to one task: until it knows its state, messages are compared by age. */
  expect(client: Client, filter: string): void {
    if (this.#topics.taskIdOf(filter) === null) return
    const topics = this.#waiting.get(client) ?? new Map()
    this.#waiting.set(client, topics.set(filter, {}))
  }

  /**
   * Whether a message may go to a client. The state that the engine tells may already hold changes that are still on
   * their way as events, or be older than one that has just passed: nobody is to see a task go back in time.
   */
  passes(client: Client, { topic, event }: Message): boolean {
    const seen = this.#waiting.get(client)?.get(topic)
    if (!seen || !event || event.kind === 'removed') return true
    const stamp = { at: event.at, rank: rankOf(event.status) }
    seen.passed = stamp
    if (!seen.state) return true
    if (!isAfter(stamp, seen.state)) return false
    this.#waiting.get(client)!.delete(topic)
    return true
  }

  /** The same for what the engine told, to a client that has just come. */
  passesAsState(client: Client, topic: string, payload: string | Buffer): boolean {
    const seen = this.#waiting.get(client)?.get(topic)
    if (!seen) return true
    const { timestamp, status } = JSON.parse(String(payload)) as { timestamp: string; status: string }
    const stamp = { at: Date.parse(timestamp), rank: rankOf(status) }
    if (seen.passed && !isAfter(stamp, seen.passed)) return false
    seen.state = stamp
    return true
  }

  async *#packets(filters: readonly string[]): AsyncGenerator<object> {
    for (const filter of filters) {
      try {
        for await (const { topic, payload } of this.#states(filter)) {
          yield { cmd: 'publish', qos: 1, topic, payload: Buffer.from(payload()) }
        }
      } catch {
        return // The engine is away: the changes tell of themselves when it is back.
      }
    }
  }

  async *#states(filter: string): AsyncGenerator<Message> {
    const id = this.#topics.taskIdOf(filter)
    if (id !== null) {
      const [task] = await this.#engine.get([id])
      if (task) yield this.#topics.ofTask(task)
    } else if (fits(filter, this.#topics.task('any'))) {
      const { tasks } = await this.#engine.list({ limit: STATES_MAX })
      for (const task of tasks.reverse()) yield this.#topics.ofTask(task)
    }
    if (!fits(filter, this.#topics.worker('any')) && !filter.startsWith(this.#topics.worker(''))) return
    for (const worker of await this.#engine.workers()) {
      const message = this.#topics.ofWorker(worker.id, WORKER_STATES.here)
      if (fits(filter, message.topic)) yield message
    }
  }
}

interface Stamp {
  at: number
  rank: number
}

function rankOf(status: string): number {
  return RANKS[status] ?? 2
}

/** In the same millisecond the status decides. */
function isAfter(one: Stamp, other: Stamp): boolean {
  return one.at > other.at || (one.at === other.at && one.rank > other.rank)
}
