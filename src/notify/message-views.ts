import type { Client } from 'aedes'
import type { Queue } from '../queue/queue.ts'
import { allows, allowsGroup, allowsType, type Bounds, boundsText } from '../task/bounds.ts'
import { hideContents } from '../task/contents.ts'
import { eventJson, type TaskEvent } from '../task/event.ts'
import type { Authorization } from './live.ts'
import type { State } from './snapshots.ts'
import { type Message, TOPICS } from './topics.ts'

/** Groups of tasks that are remembered: an event does not tell its task's. */
const PLACES_MAX = 50_000

/** What each client of the embedded broker is shown of a message: all of it, states alone, or nothing. */
export class MessageViews {
  readonly #queue: Queue
  readonly #authorizationOf: (client: Client) => Authorization | undefined
  readonly #groups = new Map<string, string | null>()
  readonly #states = new WeakMap<Message, Message>()
  readonly #names = new WeakMap<Bounds, string>()

  constructor(queue: Queue, authorizationOf: (client: Client) => Authorization | undefined) {
    this.#queue = queue
    this.#authorizationOf = authorizationOf
  }

  /** Learns of which groups the tasks of events are, if any client's bounds ask for that. */
  async prepare(events: readonly TaskEvent[], clients: Iterable<Client>): Promise<void> {
    const asksForGroups = [...clients].some((client) => this.#authorizationOf(client)?.bounds?.groups)
    if (!asksForGroups) return
    const unknown = [...new Set(events.map(({ taskId }) => taskId))].filter((id) => !this.#groups.has(id))
    const tasks = unknown.length > 0 ? await this.#queue.get(unknown, { bare: true }) : []
    if (this.#groups.size >= PLACES_MAX) this.#groups.clear()
    for (const task of tasks) if (task) this.#groups.set(task.id, task.group)
  }

  /** The different bounds of these clients. */
  tenantsOf(clients: Iterable<Client>): Map<string, Bounds> {
    const tenants = new Map<string, Bounds>()
    for (const client of clients) {
      const bounds = this.#authorizationOf(client)?.bounds
      if (bounds) tenants.set(this.#nameOf(bounds), bounds)
    }
    return tenants
  }

  /** The message as a client may see it; null: not at all. */
  shown(client: Client, message: Message): Message | null {
    const admission = this.#authorizationOf(client)
    const { bounds, isFull } = admission ?? { bounds: null, isFull: true }
    const { kind, event, tenant } = message
    if (kind === TOPICS.stats) return (bounds ? this.#nameOf(bounds) : undefined) === tenant ? message : null
    if (bounds && !(event && this.#isWithin(bounds, event))) return null
    // All of a line is content.
    if (kind === TOPICS.log && !isFull) return null
    return isFull || !event ? message : this.#stateOf(message, event)
  }

  /** The same for the current state of a task or worker, which a new client receives. */
  shownState(client: Client, state: State): State | null {
    const { bounds, isFull } = this.#authorizationOf(client) ?? { bounds: null, isFull: true }
    const { task, payload } = state
    if (bounds && !(task && allows(bounds, task))) return null
    if (isFull || !task) return state
    const { progress, ...told } = JSON.parse(payload.toString()) as Record<string, unknown>
    const figure = typeof progress === 'number' ? progress : null
    return { ...state, payload: Buffer.from(JSON.stringify({ ...told, progress: figure, result: null, error: null })) }
  }

  #isWithin(bounds: Bounds, { taskId, type }: Pick<TaskEvent, 'taskId' | 'type'>): boolean {
    return allowsType(bounds, type) && (bounds.groups === null || allowsGroup(bounds, this.#groups.get(taskId) ?? null))
  }

  #stateOf(message: Message, event: TaskEvent): Message {
    let state = this.#states.get(message)
    if (!state) {
      // An empty message reports a deleted task.
      const payload = event.kind === 'removed' ? message.payload : () => eventJson(hideContents(event))
      state = { ...message, payload }
      this.#states.set(message, state)
    }
    return state
  }

  #nameOf(bounds: Bounds): string {
    let name = this.#names.get(bounds)
    if (name === undefined) {
      name = boundsText(bounds)
      this.#names.set(bounds, name)
    }
    return name
  }
}
