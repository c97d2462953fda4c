import { eventJson, type TaskEvent } from '../task/event.ts'
import type { Task } from '../task/task.ts'

/** Types whose topics are kept made. */
const TYPES_MAX = 1_000

/** What is published: `retain` says that a late subscriber is to get it at once. */
export interface Message {
  topic: string
  /** The topic with `+` for the task's id: all topics of a shape are heard by the same wildcards. */
  shape?: string
  /** JSON, made when somebody first asks for it. */
  payload: () => string
  retain: boolean
  /** Of a task's state: whether it is its last one, and so may expire with the task. */
  final?: boolean
  event?: TaskEvent
}

export const WORKER_STATES = { here: 'online', gone: 'offline' } as const

/** Every topic there is, under one prefix. Ids and types need no escaping: both are checked where they are made. */
export class Topics {
  readonly prefix: string
  readonly #taskShape: string
  readonly #progressShape: string
  readonly #changes = new Map<string, Map<string, { start: string; shape: string }>>()

  constructor(prefix: string) {
    this.prefix = prefix
    this.#taskShape = this.task('+')
    this.#progressShape = `${this.task('+')}/progress`
  }

  task(id: string): string {
    return `${this.prefix}/tasks/${id}`
  }

  /** A worker over HTTP names itself as it likes: what a topic may not hold is escaped as in URLs. */
  worker(id: string): string {
    return `${this.prefix}/workers/${id.replace(/[%/+#\0]/g, encodeURIComponent)}`
  }

  get stats(): string {
    return `${this.prefix}/stats`
  }

  /** A subscriber may ask for what lies under the prefix, and for nothing else. */
  allows(filter: string): boolean {
    return filter.startsWith(`${this.prefix}/`)
  }

  /** The id of a filter that names one task, or null. */
  taskIdOf(filter: string): string | null {
    const start = this.task('')
    const id = filter.slice(start.length)
    return filter.startsWith(start) && /^[^/+#]+$/.test(id) ? id : null
  }

  /** What tells of an event, in the order in which it is to be published. */
  ofEvent(event: TaskEvent): Message[] {
    const { kind, taskId, type, status } = event
    const state = this.task(taskId)
    const shape = this.#taskShape
    if (kind === 'removed') return [{ topic: state, shape, payload: () => '', retain: true, event }]
    const payload = once(() => eventJson(event))
    if (kind === 'progress') {
      return [{ topic: `${state}/progress`, shape: this.#progressShape, payload, retain: false, event }]
    }
    const final = status !== 'pending' && status !== 'processing'
    const change = this.#changeTopics(type, status)
    return [
      { topic: state, shape, payload, retain: true, final, event },
      { topic: change.start + taskId, shape: change.shape, payload, retain: false, event },
    ]
  }

  /** A task's present state, for who comes late. No event tells of it alone, so it has no `event_id`. */
  ofTask(task: Task): Message {
    const { id: taskId, updatedAt: at, ...rest } = task
    const event: TaskEvent = { ...rest, taskId, at, id: '', kind: 'status' }
    const final = task.completedAt !== null
    const payload = once(() => eventJson(event))
    return { topic: this.task(taskId), payload, retain: true, final, event }
  }

  ofWorker(id: string, state: string): Message {
    return { topic: this.worker(id), payload: () => state, retain: true }
  }

  ofStats(stats: object): Message {
    return { topic: this.stats, payload: () => JSON.stringify(stats), retain: false }
  }

  #changeTopics(type: string, status: string): { start: string; shape: string } {
    const ofType = this.#changes.get(type) ?? new Map<string, { start: string; shape: string }>()
    let topics = ofType.get(status)
    if (!topics) {
      if (this.#changes.size >= TYPES_MAX) this.#changes.clear()
      const start = `${this.prefix}/events/${type}/${status}/`
      topics = { start, shape: `${start}+` }
      this.#changes.set(type, ofType.set(status, topics))
    }
    return topics
  }
}

function once(make: () => string): () => string {
  let made: string | undefined
  return () => {
    made ??= make()
    return made
  }
}

/** Whether an MQTT filter (`+` is one level, a last `#` any number, none included) fits a topic. */
export function fits(filter: string, topic: string): boolean {
  const want = filter.split('/')
  const have = topic.split('/')
  for (const [index, level] of want.entries()) {
    if (level === '#') return true
    if (have[index] === undefined || (level !== '+' && level !== have[index])) return false
  }
  return want.length === have.length
}
