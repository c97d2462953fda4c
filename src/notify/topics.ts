import { eventJson, type TaskEvent } from '../task/event.ts'
import type { Task } from '../task/task.ts'

/** What is published: `retain` says that a late subscriber is to get it at once. */
export interface Message {
  topic: string
  payload: string
  retain: boolean
  /** Of a task's state: whether it is its last one, and so may expire with the task. */
  final?: boolean
  event?: TaskEvent
}

export const WORKER_STATES = { here: 'online', gone: 'offline' } as const

/** Every topic there is, under one prefix. Ids and types need no escaping: both are checked where they are made. */
export class Topics {
  readonly prefix: string

  constructor(prefix: string) {
    this.prefix = prefix
  }

  task(id: string): string {
    return `${this.prefix}/tasks/${id}`
  }

  worker(id: string): string {
    return `${this.prefix}/workers/${id}`
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
    if (kind === 'removed') return [{ topic: this.task(taskId), payload: '', retain: true, event }]
    const payload = JSON.stringify(eventJson(event))
    if (kind === 'progress') return [{ topic: `${this.task(taskId)}/progress`, payload, retain: false, event }]
    const final = status !== 'pending' && status !== 'processing'
    return [
      { topic: this.task(taskId), payload, retain: true, final, event },
      { topic: `${this.prefix}/events/${type}/${status}/${taskId}`, payload, retain: false, event },
    ]
  }

  /** A task's present state, for who comes late. No event tells of it alone, so it has no `event_id`. */
  ofTask(task: Task): Message {
    const { id: taskId, updatedAt: at, ...rest } = task
    const event: TaskEvent = { ...rest, taskId, at, id: '', kind: 'status' }
    const payload = JSON.stringify({ ...eventJson(event), event_id: null })
    return { topic: this.task(taskId), payload, retain: true, final: task.completedAt !== null }
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
