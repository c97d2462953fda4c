import { Readable } from 'node:stream'
import type { Client } from 'aedes'
import memory from 'aedes-persistence'
import type { Engine } from '../engine/engine.ts'
import { fits, type Message, type Topics, WORKER_STATES } from './topics.ts'

/** A subscriber to all tasks gets the states of this many, the newest; a subscriber to one gets that one. */
const STATES_MAX = 1_000
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
  passes(client: Client, { topic, retained, payload }: Passing): boolean {
    const seen = this.#waiting.get(client)?.get(topic)
    if (!seen) return true
    if (payload.length === 0) return true
    const stamp = stampOf(payload)
    if (retained) {
      if (seen.passed && !isAfter(stamp, seen.passed)) return false
      seen.state = stamp
      return true
    }
    seen.passed = stamp
    if (!seen.state) return true
    if (!isAfter(stamp, seen.state)) return false
    this.#waiting.get(client)!.delete(topic)
    return true
  }

  async *#packets(filters: readonly string[]): AsyncGenerator<Message & { cmd: 'publish'; qos: 1 }> {
    for (const filter of filters) {
      try {
        for await (const message of this.#states(filter)) {
          yield { ...message, cmd: 'publish', qos: 1, payload: Buffer.from(message.payload) as never }
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
      const topic = this.#topics.worker(worker.id)
      if (fits(filter, topic)) yield { topic, payload: WORKER_STATES.here, retain: true }
    }
  }
}

/** `retained`: told to one client who has just come; else to all who listen. */
interface Passing {
  topic: string
  payload: string | Buffer
  retained?: boolean
}

interface Stamp {
  at: number
  rank: number
}

function stampOf(payload: string | Buffer): Stamp {
  const { timestamp, status } = JSON.parse(String(payload)) as { timestamp: string; status: string }
  return { at: Date.parse(timestamp), rank: RANKS[status] ?? 2 }
}

/** In the same millisecond the status decides. */
function isAfter(one: Stamp, other: Stamp): boolean {
  return one.at > other.at || (one.at === other.at && one.rank > other.rank)
}
