import type { CallRate } from '../task/api-key.ts'
import { invalidField } from '../task/errors.ts'
import type { TaskEvent } from '../task/event.ts'
import type { ScheduledTask } from '../task/schedule.ts'
import type { Task, TaskSpec } from '../task/task.ts'
import type {
  Changed,
  EventsQuery,
  HandlerSettings,
  KeyChange,
  ListQuery,
  Queue,
  ScheduleChange,
  TaskFilter,
  Turn,
  TypeChange,
  Which,
} from './queue.ts'

/** Transforms each task, event and task of a schedule before it is shown. */
export type View = <T extends (Task | TaskEvent | ScheduledTask) & { payload?: Task['payload'] }>(shown: T) => T

/**
 * An engine whose tasks, events and schedules are shown through a view that hides or decrypts parts of them. Only a
 * turn returns tasks unchanged, because a worker needs them.
 */
export class RedactedQueue implements Queue {
  readonly url: string
  readonly turnsAtOnce: number
  readonly #queue: Queue
  readonly #view: View

  constructor(queue: Queue, view: View) {
    this.url = queue.url
    this.turnsAtOnce = queue.turnsAtOnce
    this.#queue = queue
    this.#view = view
  }

  async submit(specs: readonly TaskSpec[]) {
    const submitted = await this.#queue.submit(specs)
    return submitted.map(({ task, existing }) => ({ task: this.#view(task), existing }))
  }

  turn(turn: Turn) {
    return this.#queue.turn(turn)
  }

  async cancel(which: Which) {
    if ('filter' in which) this.#refuseHidden(which.filter)
    return this.#changed(await this.#queue.cancel(which))
  }

  async retry(which: Which) {
    if ('filter' in which) this.#refuseHidden(which.filter)
    return this.#changed(await this.#queue.retry(which))
  }

  async erase(ids: readonly string[]) {
    return this.#changed(await this.#queue.erase(ids))
  }

  configureType(type: string, change: TypeChange) {
    return this.#queue.configureType(type, change)
  }

  declareHandlers(handlers: ReadonlyMap<string, HandlerSettings>) {
    return this.#queue.declareHandlers(handlers)
  }

  sweep(max: number) {
    return this.#queue.sweep(max)
  }

  async get(ids: readonly string[], options?: { bare?: boolean }) {
    return (await this.#queue.get(ids, options)).map((task) => this.#shown(task))
  }

  async list(query: ListQuery) {
    this.#refuseHidden(query)
    const page = await this.#queue.list(query)
    return { ...page, tasks: page.tasks.map((task) => this.#view(task)) }
  }

  async explain(id: string) {
    const explanation = await this.#queue.explain(id)
    return explanation && { ...explanation, task: this.#view(explanation.task) }
  }

  predecessor(lease: string, id: string) {
    return this.#queue.predecessor(lease, id)
  }

  batch(name: string) {
    return this.#queue.batch(name)
  }

  types(query?: { names?: readonly string[]; holders?: boolean }) {
    return this.#queue.types(query)
  }

  workers() {
    return this.#queue.workers()
  }

  stats() {
    return this.#queue.stats()
  }

  async events(query: EventsQuery) {
    const page = await this.#queue.events(query)
    return { ...page, events: page.events.map((event) => this.#view(event)) }
  }

  keys(change?: KeyChange) {
    return this.#queue.keys(change)
  }

  countCalls(key: string, rate: CallRate, calls: number) {
    return this.#queue.countCalls(key, rate, calls)
  }

  async schedules(change?: ScheduleChange) {
    const schedules = await this.#queue.schedules(change)
    return schedules.map((schedule) => ({ ...schedule, task: this.#view(schedule.task) }))
  }

  health() {
    return this.#queue.health()
  }

  close() {
    return this.#queue.close()
  }

  /** Filtering by a hidden tag would confirm guesses of its value. @throws XQueueError `invalid_request` */
  #refuseHidden({ tag }: TaskFilter): void {
    if (tag === undefined) return
    const shown = this.#view({ tags: { [tag.key]: tag.value } } as unknown as ScheduledTask)
    if (shown.tags?.[tag.key] === tag.value) return
    throw invalidField('tag', `"${tag.key}" is hidden on this server, so no filter may ask for it`)
  }

  #shown(task: Task | null): Task | null {
    return task && this.#view(task)
  }

  #changed({ results, next }: Changed): Changed {
    return { results: results.map((result) => ({ ...result, task: this.#shown(result.task) })), next }
  }
}
