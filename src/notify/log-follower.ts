import type { Queue } from '../queue/queue.ts'
import type { TaskEvent } from '../task/event.ts'
import { isFinal } from '../task/status.ts'
import type { Message, Topics } from './topics.ts'

/** Lines that are read of one task at once, and tasks of one round. */
const LINES_MAX = 1_000
const TASKS_MAX = 200

/** Logs that subscribers name, by task, with a number that changes with each new subscription. */
export type Followed = ReadonlyMap<string, number>

/**
 * Publishes the lines of those tasks' logs that subscribers of this process follow: the kept lines on subscription,
 * then each new one. It asks the store for them in rounds, because lines are no events. A line may be published again
 * when another client subscribes; its number tells.
 */
export class LogFollower {
  readonly #queue: Queue
  readonly #topics: Topics
  #positions = new Map<string, Position>()
  /** The tasks in the order of their next turn. */
  #order: string[] = []

  constructor(queue: Queue, topics: Topics) {
    this.#queue = queue
    this.#topics = topics
  }

  /** A task that had ended may run again. */
  changed(events: readonly TaskEvent[]): void {
    if (this.#positions.size === 0) return
    for (const { taskId } of events) {
      const position = this.#positions.get(taskId)
      if (position) position.isDone = false
    }
  }

  /** The messages of one round. */
  async *round(followed: Followed): AsyncGenerator<Message[]> {
    this.#follow(followed)
    const ids = this.#order.filter((id) => !this.#positions.get(id)!.isDone).slice(0, TASKS_MAX)
    if (ids.length < this.#order.length) {
      const asked = new Set(ids)
      this.#order = [...this.#order.filter((id) => !asked.has(id)), ...ids]
    }
    for (const id of ids) {
      const position = this.#positions.get(id)!
      const found = await this.#queue.logs(id, position.after, LINES_MAX)
      position.isDone = !found || (isFinal(found.task.status) && found.lines.length < LINES_MAX)
      if (!found || found.lines.length === 0) continue
      position.after = found.lines.at(-1)!.n
      yield found.lines.map((line) => this.#topics.ofLine(found.task, line))
    }
  }

  #follow(followed: Followed): void {
    const positions = new Map<string, Position>()
    for (const [id, subscription] of followed) {
      const before = this.#positions.get(id)
      const isSame = before?.subscription === subscription
      positions.set(id, isSame ? before : { subscription, after: 0, isDone: false })
    }
    this.#positions = positions
    this.#order = [...new Set([...this.#order.filter((id) => positions.has(id)), ...positions.keys()])]
  }
}

interface Position {
  subscription: number
  after: number
  isDone: boolean
}
