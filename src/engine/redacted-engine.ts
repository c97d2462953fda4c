import type { CallRate } from '../task/api-key.ts'
import { invalidField } from '../task/errors.ts'
import type { TaskEvent } from '../task/event.ts'
import type { ScheduledTask } from '../task/schedule.ts'
import type { Task, TaskSpec } from '../task/task.ts'
import type {
  Changed,
  Engine,
  EventsQuery,
  HandlerSettings,
  KeyChange,
  ListQuery,
  ScheduleChange,
  TaskFilter,
  Turn,
  TypeChange,
  Which,
} from './engine.ts'

/** Transforms each task, event and task of a schedule before it is shown. */
export type View = <T extends (Task | TaskEvent | ScheduledTask) & { payload?: Task['payload'] }>(shown: T) => T

/**
 * An engine whose tasks, events and schedules are shown through a view that hides or decrypts parts of them. Only a
 * turn returns tasks unchanged, because a worker needs them.
 */
export class RedactedEngine implements Engine {
  readonly url: string
  readonly turnsAtOnce: number
  readonly #engine: Engine
  readonly #view: View

  constructor(engine: Engine, view: View) {
    this.url = engine.url
    this.turnsAtOnce = engine.turnsAtOnce
    this.#engine = engine
    this.#view = view
  }

  async submit(specs: readonly TaskSpec[]) {
    const submitted = await this.#engine.submit(specs)
    return submitted.map(({ task, existing }) => ({ task: this.#view(task), existing }))
  }

  turn(turn: Turn) {
    return this.#engine.turn(turn)
  }

  async cancel(which: Which) {
    if ('filter' in which) this.#refuseHidden(which.filter)
    return this.#changed(await this.#engine.cancel(which))
  }

  async retry(which: Which) {
    if ('filter' in which) this.#refuseHidden(which.filter)
    return this.#changed(await this.#engine.retry(which))
  }

  async erase(ids: readonly string[]) {
    return this.#changed(await this.#engine.erase(ids))
  }

  configureType(type: string, change: TypeChange) {
    return this.#engine.configureType(type, change)
  }

  declareHandlers(handlers: ReadonlyMap<string, HandlerSettings>) {
    return this.#engine.declareHandlers(handlers)
  }

  sweep(max: number) {
    return this.#engine.sweep(max)
  }

  async get(ids: readonly string[], options?: { bare?: boolean }) {
    return (await this.#engine.get(ids, options)).map((task) => this.#shown(task))
  }

  async list(query: ListQuery) {
    this.#refuseHidden(query)
    const page = await this.#engine.list(query)
    return { ...page, tasks: page.tasks.map((task) => this.#view(task)) }
  }

  async explain(id: string) {
    const explanation = await this.#engine.explain(id)
    return explanation && { ...explanation, task: this.#view(explanation.task) }
  }

  predecessor(lease: string, id: string) {
    return this.#engine.predecessor(lease, id)
  }

  batch(name: string) {
    return this.#engine.batch(name)
  }

  types(query?: { names?: readonly string[]; holders?: boolean }) {
    return this.#engine.types(query)
  }

  workers() {
    return this.#engine.workers()
  }

  stats() {
    return this.#engine.stats()
  }

  async events(query: EventsQuery) {
    const page = await this.#engine.events(query)
    return { ...page, events: page.events.map((event) => this.#view(event)) }
  }

  keys(change?: KeyChange) {
    return this.#engine.keys(change)
  }

  countCalls(key: string, rate: CallRate, calls: number) {
    return this.#engine.countCalls(key, rate, calls)
  }

  async schedules(change?: ScheduleChange) {
    const schedules = await this.#engine.schedules(change)
    return schedules.map((schedule) => ({ ...schedule, task: this.#view(schedule.task) }))
  }

  health() {
    return this.#engine.health()
  }

  close() {
    return this.#engine.close()
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
