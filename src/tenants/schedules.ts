import type { Queue, ScheduleChange } from '../queue/queue.ts'
import { unknownType } from '../store/refusals.ts'
import { allows, allowsType, type Bounds } from '../task/bounds.ts'
import { invalidField, XQueueError } from '../task/errors.ts'
import { noSchedule, type Schedule } from '../task/schedule.ts'
import type { TenantNames } from './names.ts'
import { outsideOf, refuseOwnUses } from './refusals.ts'

/** Schedules with tasks within a tenant's bounds: its own, with its names, and those without a tenant. */
export class TenantSchedules {
  readonly #queue: Queue
  readonly #bounds: Bounds
  readonly #names: TenantNames

  constructor(queue: Queue, bounds: Bounds, names: TenantNames) {
    this.#queue = queue
    this.#bounds = bounds
    this.#names = names
  }

  /** As `Queue.schedules`. */
  async change(change?: ScheduleChange): Promise<Schedule[]> {
    const all = await this.#queue.schedules(change && (await this.#own(change)))
    const visible = all.filter((schedule) => this.#has(schedule))
    const own = new Set(visible.filter(({ id }) => this.#names.isOwn(id)).map(({ id }) => this.#names.shown(id)))
    // Of two schedules with the same name, the tenant's own takes precedence.
    return visible
      .map((schedule) => ({ isOwn: this.#names.isOwn(schedule.id), ...this.#shown(schedule) }))
      .filter(({ isOwn, id }) => isOwn || !own.has(id))
      .map(({ isOwn: _, ...schedule }) => schedule)
  }

  /** The change with the store's names. @throws XQueueError `not_found` | `unknown_type` | `invalid_request` */
  async #own(change: ScheduleChange): Promise<ScheduleChange> {
    if ('keep' in change) throw new XQueueError('forbidden', 'a key with bounds cannot restore schedules')
    if ('add' in change) {
      const { id, task } = change.add
      if (!allowsType(this.#bounds, task.type)) {
        const own = (await this.#queue.types()).filter(({ type }) => allowsType(this.#bounds, type))
        const names = own.map(({ type }) => type)
        throw unknownType(task.type, names, outsideOf(this.#bounds)(task.type))
      }
      refuseOwnUses(task)
      const group = groupWithin(this.#bounds, task.group, 'group')
      return { add: { ...change.add, id: this.#names.stored(id), task: { ...task, group } } }
    }
    const named = 'alter' in change ? change.alter : 'drop' in change ? change.drop : change.run
    const stored = await this.#storedName(named)
    if ('drop' in change) return { drop: stored }
    if ('run' in change) return { run: stored }
    const { task } = change.to
    if (task) refuseOwnUses(task)
    if (task?.group !== undefined) task.group = groupWithin(this.#bounds, task.group, 'group')
    return { alter: stored, to: change.to }
  }

  async #storedName(name: string): Promise<string> {
    const visible = (await this.#queue.schedules()).filter((schedule) => this.#has(schedule))
    const stored = [this.#names.stored(name), name].find((id) => visible.some((schedule) => schedule.id === id))
    if (stored === undefined) throw noSchedule(name)
    return stored
  }

  #has({ id, task }: Schedule): boolean {
    return allows(this.#bounds, task) && this.#names.shown(id) !== null
  }

  #shown(schedule: Schedule): Schedule {
    return { ...schedule, id: this.#names.shown(schedule.id)! }
  }
}

/** The group of a task. @throws XQueueError `invalid_request` for a group outside of the bounds */
export function groupWithin({ groups }: Bounds, group: string | null, path: string): string | null {
  if (groups === null || (group !== null && groups.includes(group))) return group
  if (group === null && groups.length === 1) return groups[0]!
  const have = `must be one of ${groups.slice(0, 10).join(', ')}${groups.length > 10 ? ', …' : ''}`
  throw invalidField(path, `${group === null ? 'is missing and' : `is ${JSON.stringify(group)} and`} ${have}`)
}
