import { eventJson, type TaskEvent } from '../task/event.ts'
import type { LimitState } from '../task/limit-watch.ts'
import type { LogLine } from '../task/log-line.ts'
import type { Task } from '../task/task.ts'
import type { Qos } from './packets.ts'

/** Number of types with cached topics. */
const TYPES_MAX = 1_000

/** One kind of topic; docs/reference/mqtt.md is made of these. */
export interface TopicKind {
  /** Path below the prefix, with placeholders. */
  path: string
  tells: string
  contentType: 'application/json' | 'text/plain'
  /** Whether a new subscriber gets the latest message at once. */
  retain: boolean
  /** Maximum QoS. */
  qosMax: Qos
}

/** All topics. */
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
  log: {
    path: 'tasks/<id>/logs',
    tells: 'lines that the handler of a task logs: the kept ones on subscription, then each new one; name the task',
    contentType: 'application/json',
    retain: false,
    qosMax: 1,
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
    tells: 'the figures of the queue, of each type and of each named limit, every second',
    contentType: 'application/json',
    retain: false,
    qosMax: 0,
  },
  limit: {
    path: 'limits/<name>',
    tells: 'the settings of a limit within a second of a change, and of each one on subscription; empty: removed',
    contentType: 'application/json',
    retain: false,
    qosMax: 1,
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

/** A published message. */
export interface Message {
  kind: TopicKind
  topic: string
  /** The topic with `+` for the task's id: the same wildcards match all topics of a shape. */
  shape?: string
  /** Created on first use. */
  payload: () => string
  /** Whether this is a final state, which may expire when the task is deleted. */
  final?: boolean
  event?: TaskEvent
  /** The only tenant that may receive it, by its `boundsText`. */
  tenant?: string
}

export const WORKER_STATES = { here: 'online', gone: 'offline' } as const

/** The topics under one prefix. Ids and types need no escaping, because both are checked at creation. */
export class Topics {
  readonly prefix: string
  readonly #taskStart: string
  readonly #progressEnd: string
  readonly #logEnd: string
  readonly #taskShape: string
  readonly #progressShape: string
  readonly #changes = new Map<string, Map<string, { start: string; shape: string }>>()

  constructor(prefix: string) {
    this.prefix = prefix
    this.#taskStart = this.#of(TOPICS.task, '')
    this.#progressEnd = TOPICS.progress.path.slice(TOPICS.task.path.length)
    this.#logEnd = TOPICS.log.path.slice(TOPICS.task.path.length)
    this.#taskShape = this.task('+')
    this.#progressShape = this.progress('+')
  }

  task(id: string): string {
    return this.#taskStart + id
  }

  progress(id: string): string {
    return this.task(id) + this.#progressEnd
  }

  /** The task of a filter that names the log of one, or null. */
  loggedTaskOf(filter: string): string | null {
    return filter.endsWith(this.#logEnd) ? this.taskIdOf(filter.slice(0, -this.#logEnd.length)) : null
  }

  /** A line of a log. Its event says to which tenants it may go. */
  ofLine({ updatedAt: at, ...task }: Task, line: LogLine): Message {
    const event: TaskEvent = { ...task, taskId: task.id, at, id: '', kind: 'progress' }
    const topic = this.task(task.id) + this.#logEnd
    return { kind: TOPICS.log, topic, payload: once(() => JSON.stringify(line)), event }
  }

  /** The filter for all changes of one type. */
  changesOf(type: string): string {
    return this.#of({ path: TOPICS.change.path.replace('<status>/<id>', '#') }, type)
  }

  /** A worker over HTTP chooses its name. */
  worker(id: string): string {
    return this.#of(TOPICS.worker, escaped(id))
  }

  /** `+` matches any limit. */
  limit(name: string): string {
    return this.#of(TOPICS.limit, name === '+' ? name : escaped(name))
  }

  get stats(): string {
    return this.#of(TOPICS.stats)
  }

  /** Filters must be under the prefix. */
  allows(filter: string): boolean {
    return filter.startsWith(`${this.prefix}/`)
  }

  /** The id of a filter that names one task, or null. */
  taskIdOf(filter: string): string | null {
    const id = filter.slice(this.#taskStart.length)
    return filter.startsWith(this.#taskStart) && /^[^/+#]+$/.test(id) ? id : null
  }

  /** The messages of an event, in the order of publication. */
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

  /** A task's current state, for new subscribers. It belongs to no event, so it has no `event_id`. */
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

  ofLimit(state: LimitState): Message {
    const payload = () => ('removed' in state ? '' : JSON.stringify(state))
    return { kind: TOPICS.limit, topic: this.limit(state.name), shape: this.limit('+'), payload }
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

  /** The topic of a kind, with its placeholders filled in order. */
  #of({ path }: Pick<TopicKind, 'path'>, ...names: string[]): string {
    let next = 0
    return `${this.prefix}/${path.replace(/<\w+>/g, () => names[next++] ?? '')}`
  }
}

/** Characters that a level of a topic does not allow, as in URLs. */
function escaped(name: string): string {
  return name.replace(/[%/+#\0]/g, encodeURIComponent)
}

function once(make: () => string): () => string {
  let made: string | undefined
  return () => {
    made ??= make()
    return made
  }
}

/** Whether an MQTT filter (`+` is one level, a final `#` any number, including none) matches a topic. */
export function fits(filter: string, topic: string): boolean {
  const want = filter.split('/')
  const have = topic.split('/')
  for (const [index, level] of want.entries()) {
    if (level === '#') return true
    if (have[index] === undefined || (level !== '+' && level !== have[index])) return false
  }
  return want.length === have.length
}
