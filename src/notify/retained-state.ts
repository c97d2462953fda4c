import { Readable } from 'node:stream'
import type { Client } from 'aedes'
import memory from 'aedes-persistence'
import type { Queue } from '../queue/queue.ts'
import { Snapshots, type State } from './snapshots.ts'
import { fits, type Message, type Topics, WORKER_STATES } from './topics.ts'

/** Its type files describe an older form that is no function. */
const makeMemory = memory as unknown as () => object
const RANKS: Readonly<Record<string, number>> = { pending: 0, processing: 1 }

/**
 * The states that new subscribers of the embedded broker get at once. Retained messages are not stored: the store has
 * the state of each task, so it is asked, and a million tasks cost no memory.
 */
export class RetainedStates {
  readonly #queue: Queue
  readonly #topics: Topics
  readonly #snapshots: Snapshots
  readonly #waiting = new WeakMap<Client, Map<string, { state?: Stamp; passed?: Stamp }>>()

  constructor(queue: Queue, topics: Topics) {
    this.#queue = queue
    this.#snapshots = new Snapshots(queue, topics)
    this.#topics = topics
  }

  /** For Aedes: keeps nothing, neither for clients that are not connected nor what is retained. */
  persistence() {
    return Object.assign(makeMemory(), {
      storeRetained: async () => undefined,
      // It knows no client to wait for: `states` is sent beside it.
      createRetainedStreamCombi: () => Readable.from([]),
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
   * Whether a message may go to a client. The state from the store may already contain changes that arrive later as
   * events, or be older than an event that was just sent. A client must never see a task go back in time.
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

  /** The same for states that were read from the store, and a new client. */
  passesAsState(client: Client, { topic, payload }: State): boolean {
    const seen = this.#waiting.get(client)?.get(topic)
    if (!seen) return true
    const { timestamp, status } = JSON.parse(String(payload)) as { timestamp: string; status: string }
    const stamp = { at: Date.parse(timestamp), rank: rankOf(status) }
    if (seen.passed && !isAfter(stamp, seen.passed)) return false
    seen.state = stamp
    return true
  }

  /** The current states for filters. The client must be subscribed already, so that it receives later changes. */
  async *states(filters: readonly string[]): AsyncGenerator<State> {
    for (const filter of filters) {
      try {
        yield* this.#statesOf(filter)
      } catch {
        return // The store is unavailable. Its changes follow when it is back.
      }
    }
  }

  async *#statesOf(filter: string): AsyncGenerator<State> {
    const id = this.#topics.taskIdOf(filter)
    if (id !== null) {
      const [task] = await this.#queue.get([id])
      if (task) yield stateOf(this.#topics.ofTask(task), task)
    } else if (fits(filter, this.#topics.task('any'))) {
      const { states, release } = await this.#snapshots.take()
      try {
        yield* states
      } finally {
        release()
      }
    }
    if (!fits(filter, this.#topics.worker('any')) && !filter.startsWith(this.#topics.worker(''))) return
    for (const worker of await this.#queue.workers()) {
      const message = this.#topics.ofWorker(worker.id, WORKER_STATES.here)
      if (fits(filter, message.topic)) yield stateOf(message)
    }
  }
}

function stateOf({ topic, payload }: Message, task?: State['task']): State {
  return { topic, payload: Buffer.from(payload()), ...(task ? { task } : {}) }
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
