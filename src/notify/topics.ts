import { eventJson, type TaskEvent } from '../task/event.ts'
import type { Task } from '../task/task.ts'
import type { Qos } from './packets.ts'

/** Types whose topics are kept made. */
const TYPES_MAX = 1_000

/** One kind of topic; docs/reference/mqtt.md is made of these. */
export interface TopicKind {
  /** Below the prefix, with the names that are filled in. */
  path: string
  tells: string
  contentType: 'application/json' | 'text/plain'
  /** Whether a late subscriber is to get the last message at once. */
  retain: boolean
  /** No more than this, whatever is set. */
  qosMax: Qos
}

/** Every topic there is. */
export const TOPICS = {
  task: {
    path: 'tasks/<id>',
    tells: 'the state of one task: the current one on subscription, then each change of its status',
    contentType: 'application/json',
    retain: true,
    qosMax: 2,
  },
  progress: {
    path: 'tasks/<id>/progress',
    tells: 'progress that the handler reports',
    contentType: 'application/json',
    retain: false,
    qosMax: 2,
  },
  change: {
    path: 'events/<type>/<status>/<id>',
    tells: 'each change of status of every task; select by type, status or both',
    contentType: 'application/json',
    retain: false,
    qosMax: 2,
  },
  stats: {
    path: 'stats',
    tells: 'the figures of the queue and of each type, every second',
    contentType: 'application/json',
    retain: false,
    qosMax: 0,
  },
  worker: {
    path: 'workers/<id>',
    tells: 'the status of a worker: `online` or `offline`',
    contentType: 'text/plain',
    retain: true,
    qosMax: 2,
  },
  mark: {
    path: 'retained',
    tells: 'a mark that an external broker has retained the states; without it, XQueue publishes them again',
    contentType: 'text/plain',
    retain: true,
    qosMax: 1,
  },
} as const satisfies Record<string, TopicKind>

/** What is published. */
export interface Message {
  kind: TopicKind
  topic: string
  /** The topic with `+` for the task's id: all topics of a shape are heard by the same wildcards. */
  shape?: string
  /** Made when somebody first asks for it. */
  payload: () => string
  /** Whether it is the last state of what it tells of, and so may expire when the task is removed. */
  final?: boolean
  event?: TaskEvent
  /** The tenant that it is for alone, by its `boundsText`. */
  tenant?: string
}

export const WORKER_STATES = { here: 'online', gone: 'offline' } as const

/** The topics under one prefix. Ids and types need no escaping: both are checked where they are made. */
export class Topics {
  readonly prefix: string
  readonly #taskStart: string
  readonly #progressEnd: string
  readonly #taskShape: string
  readonly #progressShape: string
  readonly #changes = new Map<string, Map<string, { start: string; shape: string }>>()

  constructor(prefix: string) {
    this.prefix = prefix
    this.#taskStart = this.#of(TOPICS.task, '')
    this.#progressEnd = TOPICS.progress.path.slice(TOPICS.task.path.length)
    this.#taskShape = this.task('+')
    this.#progressShape = this.progress('+')
  }

  task(id: string): string {
    return this.#taskStart + id
  }

  progress(id: string): string {
    return this.task(id) + this.#progressEnd
  }

  /** The filter for all changes of one type. */
  changesOf(type: string): string {
    return this.#of({ path: TOPICS.change.path.replace('<status>/<id>', '#') }, type)
  }

  /** A worker over HTTP names itself as it likes: what a topic may not hold is escaped as in URLs. */
  worker(id: string): string {
    return this.#of(TOPICS.worker, id.replace(/[%/+#\0]/g, encodeURIComponent))
  }

  get stats(): string {
    return this.#of(TOPICS.stats)
  }

  /** A subscriber may ask for what lies under the prefix, and for nothing else. */
  allows(filter: string): boolean {
    return filter.startsWith(`${this.prefix}/`)
  }

  /** The id of a filter that names one task, or null. */
  taskIdOf(filter: string): string | null {
    const id = filter.slice(this.#taskStart.length)
    return filter.startsWith(this.#taskStart) && /^[^/+#]+$/.test(id) ? id : null
  }

  /** What tells of an event, in the order in which it is to be published. */
  ofEvent(event: TaskEvent): Message[] {
    const { kind, taskId, type, status } = event
    const state = { kind: TOPICS.task, topic: this.task(taskId), shape: this.#taskShape, event }
    if (kind === 'removed') return [{ ...state, payload: () => '' }]
    const payload = once(() => eventJson(event))
    if (kind === 'progress') {
      const topic = this.progress(taskId)
      return [{ kind: TOPICS.progress, topic, shape: this.#progressShape, payload, event }]
    }
    const final = status !== 'pending' && status !== 'processing'
    const { start, shape } = this.#changeTopics(type, status)
    return [
      { ...state, payload, final },
      { kind: TOPICS.change, topic: start + taskId, shape, payload, event },
    ]
  }

  /** A task's present state, for who comes late. No event tells of it alone, so it has no `event_id`. */
  ofTask(task: Task): Message {
    const { id: taskId, updatedAt: at, ...rest } = task
    const event: TaskEvent = { ...rest, taskId, at, id: '', kind: 'status' }
    const final = task.completedAt !== null
    const payload = once(() => eventJson(event))
    return { kind: TOPICS.task, topic: this.task(taskId), payload, final, event }
  }

  ofWorker(id: string, state: string): Message {
    return { kind: TOPICS.worker, topic: this.worker(id), payload: () => state, final: state === WORKER_STATES.gone }
  }

  ofMark(): Message {
    return { kind: TOPICS.mark, topic: this.#of(TOPICS.mark), payload: () => 'yes' }
  }

  ofStats(stats: object, tenant?: string): Message {
    const message = { kind: TOPICS.stats, topic: this.stats, payload: () => JSON.stringify(stats) }
    return tenant === undefined ? message : { ...message, tenant }
  }

  #changeTopics(type: string, status: string): { start: string; shape: string } {
    const ofType = this.#changes.get(type) ?? new Map<string, { start: string; shape: string }>()
    let topics = ofType.get(status)
    if (!topics) {
      if (this.#changes.size >= TYPES_MAX) this.#changes.clear()
      const start = this.#of(TOPICS.change, type, status, '')
      topics = { start, shape: `${start}+` }
      this.#changes.set(type, ofType.set(status, topics))
    }
    return topics
  }

  /** With the names of its path filled in, in their order. */
  #of({ path }: Pick<TopicKind, 'path'>, ...names: string[]): string {
    let next = 0
    return `${this.prefix}/${path.replace(/<\w+>/g, () => names[next++] ?? '')}`
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
