import type {
  Changed,
  EventsQuery,
  Explanation,
  Holder,
  ListQuery,
  Page,
  Queue,
  ScheduleChange,
  Stats,
  TaskAttempts,
  TaskFilter,
  TaskLog,
  Turn,
  TurnAnswer,
  TypeChange,
  TypeHistory,
  TypeInfo,
  Which,
  WorkerInfo,
} from '../queue/queue.ts'
import type { Ring } from '../store/history.ts'
import { unknownType, unknownTypes } from '../store/refusals.ts'
import { allows, allowsGroup, allowsType, type Bounds, type Placed } from '../task/bounds.ts'
import { leaseLost, XQueueError } from '../task/errors.ts'
import type { TaskEvent } from '../task/event.ts'
import type { Predecessor } from '../task/flow.ts'
import { taskIdOf } from '../task/lease-token.ts'
import type { Task, TaskSpec } from '../task/task.ts'
import { changeEach, filtersWithin } from './filters.ts'
import { historyWithin } from './history.ts'
import { errorMask, successorsWithin } from './named-tasks.ts'
import { TenantNames } from './names.ts'
import {
  noLimits,
  noTypeFor,
  outsideOf,
  refuseForeign,
  refuseKeys,
  refuseLimits,
  refuseOwnUses,
  refuseTypeChange,
  withoutHold,
} from './refusals.ts'
import { groupWithin, TenantSchedules } from './schedules.ts'
import { statsWithin } from './stats.ts'
import { Tally } from './tally.ts'
import { turnOfGroups } from './turn-of-groups.ts'

/** Maximum number of the store's pages that are read for one page. */
const PAGES_MAX = 5
const AHEAD_MAX = 1_000
/** Maximum number of cached groups of tasks. */
const PLACES_MAX = 10_000

/**
 * The queue as one tenant sees it. Data outside of its bounds is refused as unknown, and lists and counts omit it. Each
 * verb is bounded here, so that no caller of this queue can forget it.
 */
export class BoundedQueue implements Queue {
  readonly url: string
  readonly turnsAtOnce: number
  readonly #queue: Queue
  readonly #bounds: Bounds
  readonly #names: TenantNames
  readonly #tally: Tally
  readonly #schedules: TenantSchedules
  readonly #places = new Map<string, boolean>()

  constructor(queue: Queue, bounds: Bounds) {
    this.url = queue.url
    this.turnsAtOnce = queue.turnsAtOnce
    this.#queue = queue
    this.#bounds = bounds
    this.#names = new TenantNames(bounds)
    this.#tally = new Tally((query) => this.#page(query))
    this.#schedules = new TenantSchedules(queue, bounds, this.#names)
  }

  async submit(specs: readonly TaskSpec[]) {
    const unknown = new Set(specs.map(({ type }) => type).filter((type) => !allowsType(this.#bounds, type)))
    if (unknown.size > 0) throw unknownTypes(specs, unknown, await this.#typeNames(), outsideOf(this.#bounds))
    const own = specs.map((spec, index): TaskSpec => {
      refuseOwnUses(spec)
      const { idempotencyKey: key, batch } = spec
      const group = groupWithin(this.#bounds, spec.group, `tasks[${index}].group`)
      const [ownKey, ownBatch] = [key, batch].map((name) => (name === null ? null : this.#names.stored(name)))
      return { ...spec, group, idempotencyKey: ownKey!, batch: ownBatch! }
    })
    await refuseForeign(own, this.#visible)
    const submitted = await this.#queue.submit(own).catch(async (error: unknown) => {
      throw await this.#inOwnNames(error, specs)
    })
    const tasks = await this.#shown(submitted.map(({ task }) => task))
    return submitted.map(({ existing }, index) => ({ task: tasks[index]!, existing }))
  }

  async turn(turn: Turn): Promise<TurnAnswer> {
    const { groups } = this.#bounds
    const asked = turn.types ?? turn.worker.types
    const allowed = asked.filter((type) => allowsType(this.#bounds, type))
    // A tenant's worker creates no types.
    const known = turn.want > 0 ? new Set((await this.#queue.types({ names: allowed })).map(({ type }) => type)) : null
    const types = allowed.filter((type) => known?.has(type) ?? true)
    if (turn.want > 0 && types.length === 0) throw noTypeFor(this.#bounds, asked, allowed, await this.#typeNames())
    const worker = { ...turn.worker, id: this.#names.stored(turn.worker.id), types }
    const { outcomes = [], renewals = [], logs = [] } = turn
    const held = await this.#heldHere([...outcomes, ...renewals, ...logs].map(({ lease }) => lease))
    const own: Turn = {
      ...turn,
      worker,
      types,
      outcomes: outcomes.filter(({ lease }) => held.has(lease)).map((own) => (groups ? withoutHold(own) : own)),
      renewals: renewals.filter(({ lease }) => held.has(lease)),
      logs: logs.filter(({ lease }) => held.has(lease)),
      ...(groups ? { groups } : {}),
    }
    const answer = await (groups ? turnOfGroups(this.#queue, own) : this.#queue.turn(own))
    const [settled, renewed] = [[...answer.settled], [...answer.renewed]]
    const tasks = await this.#shown(answer.leases.map(({ task }) => task))
    const all = answer.leases.flatMap(({ predecessors }) => predecessors)
    const [visible, mask] = await Promise.all([this.#predecessorsHere(all), errorMask(all, this.#visible)])
    return {
      ...answer,
      settled: outcomes.map(({ lease }) => (held.has(lease) ? settled.shift()! : { accepted: false, status: null })),
      renewed: renewals.map(({ lease }) => (held.has(lease) ? renewed.shift()! : null)),
      leases: answer.leases.map((lease, index) => ({
        ...lease,
        task: tasks[index]!,
        predecessors: lease.predecessors.flatMap((one) =>
          visible.has(one.id) ? [{ ...one, error: mask(one.error) }] : [],
        ),
      })),
    }
  }

  cancel(which: Which) {
    return this.#change('cancel', which)
  }

  retry(which: Which) {
    return this.#change('retry', which)
  }

  erase(ids: readonly string[]) {
    return this.#changeOwn(ids, (own) => this.#queue.erase(own))
  }

  async configureType(type: string, change: TypeChange): Promise<TypeInfo> {
    if (!allowsType(this.#bounds, type)) throw unknownType(type, await this.#typeNames(), outsideOf(this.#bounds)(type))
    refuseTypeChange(this.#bounds, change)
    await this.#queue.configureType(type, change)
    const [info] = await this.types({ names: [type] })
    return info!
  }

  async declareHandlers(): Promise<void> {
    throw new XQueueError('forbidden', 'a key with bounds cannot declare handlers: let an operator set their limits')
  }

  sweep(max: number) {
    return this.#queue.sweep(max)
  }

  async get(ids: readonly string[], look?: { bare?: boolean }) {
    const found = await this.#queue.get(ids, look)
    const shown = await this.#shown(found.filter((task) => task !== null && this.#has(task)) as Task[])
    const byId = new Map(shown.map((task) => [task.id, task]))
    return ids.map((id) => byId.get(id) ?? null)
  }

  async list(query: ListQuery): Promise<Page> {
    const page = await this.#page(query)
    return { ...page, tasks: await this.#shown(page.tasks) }
  }

  async predecessor(lease: string, id: string) {
    if (!(await this.#heldHere([lease])).has(lease)) throw leaseLost(lease)
    const found = await this.#queue.predecessor(lease, id)
    if (!found || !(await this.#predecessorsHere([found])).has(id)) return null
    return { ...found, error: (await errorMask([found], this.#visible))(found.error) }
  }

  async batch(name: string) {
    const info = await this.#queue.batch(this.#names.stored(name))
    return info && { ...info, batch: name }
  }

  async explain(id: string): Promise<Explanation | null> {
    const found = await this.#queue.explain(id)
    if (!found || !this.#has(found.task)) return null
    const [task] = await this.#shown([found.task])
    const visible = await this.#visible(found.waitsFor)
    const holders = this.#holders(found.holders)
    const ahead = this.#bounds.groups && found.ahead > 0 ? await this.#ahead(found.task) : found.ahead
    // The expiry of another tenant's permit is hidden.
    const isOwnEnd = found.holders.length === holders.length
    return {
      ...found,
      task: task!,
      reason: found.reason === 'behind' && ahead === 0 ? 'ready' : found.reason,
      holders,
      limits: found.limits.map((limit) => ({ ...limit, holders: this.#holders(limit.holders) })),
      ahead,
      waitsFor: found.waitsFor.filter((id) => visible.has(id)),
      ...(await successorsWithin(this.#queue, found, this.#visible)),
      until: isOwnEnd || !found.reason.endsWith('limit_reached') ? found.until : null,
    }
  }

  async attempts(id: string): Promise<TaskAttempts | null> {
    const found = await this.#queue.attempts(id)
    if (!found || !this.#has(found.task)) return null
    const [task] = await this.#shown([found.task])
    return { ...found, task: task!, attempts: found.attempts.map((attempt) => this.#withShownWorker(attempt)) }
  }

  async logs(id: string, after: number, max: number): Promise<TaskLog | null> {
    const found = await this.#queue.logs(id, after, max)
    return found && this.#has(found.task) ? found : null
  }

  async types({ names, holders = false }: { names?: readonly string[]; holders?: boolean } = {}): Promise<TypeInfo[]> {
    const within = names?.filter((name) => allowsType(this.#bounds, name))
    const infos = await this.#queue.types({ ...(within ? { names: within } : {}), holders })
    const workers = await this.workers()
    const counts = this.#bounds.groups ? await this.#tally.byType() : null
    return infos
      .filter(({ type }) => allowsType(this.#bounds, type))
      .map((info) => ({
        ...info,
        ...(counts ? counts(info.type) : {}),
        workers: workers.filter(({ types }) => types.includes(info.type)).length,
        holders: this.#holders(info.holders),
      }))
  }

  /** Its own workers; and with bounds of types only, workers without bounds that run these types. */
  async workers(): Promise<WorkerInfo[]> {
    return (await this.#queue.workers()).flatMap((worker) => {
      const isOwn = this.#names.isOwn(worker.id)
      const id = this.#names.shown(worker.id)
      const types = worker.types.filter((type) => allowsType(this.#bounds, type))
      if (id === null || types.length === 0 || (!isOwn && this.#bounds.groups)) return []
      const isWhole = isOwn || types.length === worker.types.length
      return [{ ...worker, id, types, ...(isWhole ? {} : { running: 0, processed: 0, failed: 0 }) }]
    })
  }

  async stats(): Promise<Stats> {
    const [types, workers, { counts, throughput }] = await Promise.all([
      this.types(),
      this.workers(),
      this.#tally.all(),
    ])
    return statsWithin(types, workers, this.#bounds.groups ? { counts, throughput } : { counts })
  }

  history(ring: Ring, type: string | null): Promise<TypeHistory> {
    return historyWithin(this.#queue, this.#bounds, ring, type)
  }

  async events(query: EventsQuery) {
    const page = await this.#queue.events(query)
    const ofTypes = page.events.filter(({ type }) => allowsType(this.#bounds, type))
    const visible = this.#bounds.groups ? await this.#eventsHere(ofTypes) : ofTypes
    const mask = await errorMask(visible, this.#visible)
    const events = visible.map((event) => ({ ...this.#withShownWorker(event), error: mask(event.error) }))
    return { ...page, events }
  }

  readonly keys = refuseKeys
  readonly countCalls = refuseKeys
  readonly configureLimit = refuseLimits
  readonly limits = noLimits

  schedules(change?: ScheduleChange) {
    return this.#schedules.change(change)
  }

  health() {
    return this.#queue.health()
  }

  async close(): Promise<void> {}

  #has(placed: Placed): boolean {
    return allows(this.#bounds, placed)
  }

  async #typeNames(): Promise<string[]> {
    return (await this.#queue.types()).map(({ type }) => type).filter((type) => allowsType(this.#bounds, type))
  }

  /** A refusal of the store without data that the tenant must not see. */
  async #inOwnNames(error: unknown, specs: readonly TaskSpec[]): Promise<unknown> {
    if (!(error instanceof XQueueError)) return error
    if (error.code === 'unknown_type') {
      const registered = await this.#typeNames()
      const unknown = new Set(specs.map(({ type }) => type).filter((type) => !registered.includes(type)))
      return unknownTypes(specs, unknown.size > 0 ? unknown : new Set([specs[0]!.type]), registered)
    }
    const keys = specs.flatMap(({ idempotencyKey: key }) => (key === null ? [] : [key]))
    const message = keys.reduce((text, key) => text.replaceAll(this.#names.stored(key), key), error.message)
    return new XQueueError(error.code, message, error.details, { cause: error })
  }

  /** The leases of tasks within the bounds. */
  async #heldHere(leases: readonly string[]): Promise<Set<string>> {
    if (leases.length === 0) return new Set()
    const visible = await this.#visible(leases.map(taskIdOf))
    return new Set(leases.filter((lease) => visible.has(taskIdOf(lease))))
  }

  readonly #visible = async (ids: readonly string[]): Promise<Set<string>> => {
    const different = [...new Set(ids)]
    if (different.length === 0) return new Set()
    const tasks = await this.#queue.get(different, { bare: true })
    return new Set(different.filter((_, index) => tasks[index] && this.#has(tasks[index])))
  }

  async #change(change: 'cancel' | 'retry', which: Which): Promise<Changed> {
    if ('filter' in which) return this.#changeMatching(change, which)
    return this.#changeOwn(which.ids, (own) => this.#queue[change]({ ids: own }))
  }

  async #changeOwn(ids: readonly string[], change: (own: string[]) => Promise<Changed>): Promise<Changed> {
    const visible = await this.#visible(ids)
    const own = ids.filter((id) => visible.has(id))
    const { results } = own.length > 0 ? await change(own) : { results: [] }
    const shown = await this.#shownResults(results)
    const byId = new Map(shown.map((result) => [result.id, result]))
    const none = (id: string) => ({ id, outcome: 'unknown' as const, task: null })
    return { results: ids.map((id) => byId.get(id) ?? none(id)), next: null }
  }

  async #changeMatching(change: 'cancel' | 'retry', { filter, before }: Extract<Which, { filter: TaskFilter }>) {
    const names = filter.type === undefined && this.#bounds.types ? await this.#typeNames() : []
    const filters = filtersWithin(this.#bounds, filter, names, this.#names)
    const changed = await changeEach(this.#queue, change, filters, before)
    return { ...changed, results: await this.#shownResults(changed.results) }
  }

  async #shownResults(results: Changed['results']): Promise<Changed['results']> {
    const tasks = await this.#shown(results.flatMap(({ task }) => (task ? [task] : [])))
    const byId = new Map(tasks.map((task) => [task.id, task]))
    return results.map((result) => ({ ...result, task: byId.get(result.id) ?? null }))
  }

  /** A page of tasks within the bounds, with the store's names. */
  async #page(query: ListQuery): Promise<Page> {
    const { types, groups } = this.#bounds
    const { type, group, batch } = query
    const isOutside = type !== undefined && !allowsType(this.#bounds, type)
    if (isOutside || (group !== undefined && !allowsGroup(this.#bounds, group))) return { tasks: [], nextCursor: null }
    const own: ListQuery = {
      ...query,
      ...(type === undefined && types?.length === 1 && !types[0]!.endsWith('*') ? { type: types[0]! } : {}),
      ...(group === undefined && groups?.length === 1 ? { group: groups[0]! } : {}),
      ...(batch === undefined ? {} : { batch: this.#names.stored(batch) }),
    }
    let cursor = query.cursor
    for (let pages = 1; ; pages++) {
      const page = await this.#queue.list({ ...own, ...(cursor === undefined ? {} : { cursor }) })
      const tasks = page.tasks.filter((task) => this.#has(task))
      if (tasks.length > 0 || page.nextCursor === null || pages === PAGES_MAX) return { ...page, tasks }
      cursor = page.nextCursor
    }
  }

  /** The tenant's tasks that run before one, counted up to a bound. */
  async #ahead({ id, type, priority }: Task): Promise<number> {
    const { tasks } = await this.#page({ status: 'pending', type, limit: AHEAD_MAX, bare: true })
    const at = tasks.findIndex((task) => task.id === id)
    return at >= 0 ? at : tasks.filter((task) => task.priority >= priority).length
  }

  #holders(holders: readonly Holder[]): Holder[] {
    return holders.flatMap((holder) => {
      if (!allowsGroup(this.#bounds, holder.group)) return []
      return [{ ...holder, workerId: this.#names.shown(holder.workerId) ?? '' }]
    })
  }

  /** The type is enough where no groups are bound: retention may have deleted a predecessor. */
  async #predecessorsHere(all: readonly Predecessor[]): Promise<ReadonlySet<string>> {
    if (this.#bounds.groups) return this.#visible(all.map(({ id }) => id))
    return new Set(all.flatMap(({ id, type }) => (allowsType(this.#bounds, type) ? [id] : [])))
  }

  /** Tasks with the tenant's names, and without predecessors outside of its bounds. */
  async #shown(tasks: readonly Task[]): Promise<Task[]> {
    const visible = await this.#visible(tasks.flatMap(({ after }) => after))
    const mask = await errorMask(tasks, this.#visible)
    return tasks.map((task) => ({
      ...this.#withShownWorker(task),
      error: mask(task.error),
      idempotencyKey: this.#names.shown(task.idempotencyKey),
      batch: this.#names.shown(task.batch),
      after: task.after.length === 0 ? task.after : task.after.filter((id) => visible.has(id)),
    }))
  }

  #withShownWorker<T extends { workerId: string | null }>(shown: T): T {
    return { ...shown, workerId: this.#names.shown(shown.workerId) }
  }

  /** Events lack the group of their task, so it is read from the task once. */
  async #eventsHere(events: readonly TaskEvent[]): Promise<TaskEvent[]> {
    const unknown = [...new Set(events.map(({ taskId }) => taskId))].filter((id) => !this.#places.has(id))
    const visible = await this.#visible(unknown)
    if (this.#places.size > PLACES_MAX) this.#places.clear()
    const found = new Map(unknown.map((id) => [id, visible.has(id)]))
    for (const [id, isHere] of found) this.#places.set(id, isHere)
    return events.filter(({ taskId }) => found.get(taskId) ?? this.#places.get(taskId) ?? false)
  }
}
