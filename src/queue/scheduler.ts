import { refuseUnstorableSchedule } from '../store/admission.ts'
import type { Document, DocumentChange, DueHandler } from '../store/documents.ts'
import { refuseUses, scheduleExists, tooManySchedules, unknownType } from '../store/refusals.ts'
import { scheduleChange, scheduleOf, scheduleText } from '../store/schedule-document.ts'
import type { Store } from '../store/store.ts'
import { XQueueError } from '../task/errors.ts'
import {
  changedSchedule,
  dueTick,
  isSameSchedule,
  newSchedule,
  noSchedule,
  SCHEDULE_LIMITS,
  type Schedule,
  type ScheduleChange,
  type ScheduleSpec,
  specAt,
  TICK_AGAIN_MS,
} from '../task/schedule.ts'
import type { TaskSpec } from '../task/task.ts'
import { NO_USES, type Uses } from '../task/uses.ts'

/** A schedule whose task was refused is tried again after this time. */
const REFUSED_AGAIN_MS = 60_000
const READ = [{ kind: 'schedule' }] as const

/** A schedule as it was read: a step changes it only if it still has this text. */
interface Seen {
  text: string
  schedule: Schedule
}

/**
 * The schedules. This class decides, and the store compares and applies: a schedule that has changed meanwhile is read
 * and decided again. So a tick creates exactly one task over all processes, and it does so in the same step that moves
 * the schedule to its next tick.
 */
export class Scheduler {
  readonly #store: Store
  /** While the queue is full, no tick is tried before this time. */
  #fullUntil = 0
  /** Schedules whose task was refused, and the time until which they are skipped. */
  readonly #refused = new Map<string, number>()

  constructor(store: Store) {
    this.#store = store
    store.onDue(this.#tickAll)
  }

  async list(): Promise<Schedule[]> {
    return (await this.#all()).map(({ schedule }) => schedule)
  }

  async change(change: ScheduleChange): Promise<Schedule[]> {
    refuseUnstorableSchedule(change)
    this.#refused.clear()
    for (let attempt = 1, all = await this.#all(); ; attempt++) {
      const { isChanged, documents } = await (await this.#stepFor(change, all, attempt))()
      all = seenOf(documents[0]!)
      if (isChanged) return all.map(({ schedule }) => schedule)
    }
  }

  /**
   * The step that makes a change. One that is made already is confirmed: the process that made it may have ended before
   * it was durable.
   */
  async #stepFor(change: ScheduleChange, all: readonly Seen[], attempt: number) {
    const now = this.#store.now()
    const id = idIn(change)
    const seen = all.find(({ schedule }) => schedule.id === id)
    const put = (one: DocumentChange) => () => this.#store.documents({ changes: [one], read: READ })
    const about = { kind: 'schedule', id } as const
    if ('add' in change && seen && !isSameSchedule(change.add, seen.schedule)) throw scheduleExists(id)
    if (seen && ('add' in change || 'keep' in change)) {
      return put({ ...about, type: seen.schedule.task.type, if: { text: seen.text } })
    }
    if ('add' in change) return put(scheduleChange(await this.#admitted(change.add, all.length, now), null))
    if ('keep' in change) return put(scheduleChange(change.keep, null))
    // An earlier attempt of this call removed it, and its answer was lost.
    if (!seen && 'drop' in change && attempt > 1) return put({ ...about, if: 'absent' })
    if (!seen) throw noSchedule(id)
    if ('alter' in change) await this.#refuseUses(change.to.task?.uses)
    if ('alter' in change) return put(scheduleChange(changedSchedule(seen.schedule, change.to, now), seen.text))
    if ('drop' in change) return put({ ...scheduleChange(seen.schedule, seen.text), to: null })
    return async () => {
      const run = { at: now, next: seen.schedule, afterLast: false, durable: true }
      const isChanged = (await this.#submit(seen, specAt(seen.schedule, null), run)) === 'accepted'
      return { ...(await this.#store.documents({ read: READ })), isChanged }
    }
  }

  async #admitted(spec: ScheduleSpec, count: number, now: number): Promise<Schedule> {
    if (count >= SCHEDULE_LIMITS.countMax) throw tooManySchedules()
    const { types } = await this.#store.inspect({})
    const known = types.filter(({ isKnown }) => isKnown).map(({ type }) => type)
    if (!known.includes(spec.task.type)) throw unknownType(spec.task.type, known)
    await this.#refuseUses(spec.task.uses)
    return newSchedule(spec, now)
  }

  /** Units that a limit never allows would keep its other tasks waiting at each tick. */
  async #refuseUses(uses: Uses = NO_USES): Promise<void> {
    const names = Object.keys(uses)
    if (names.length === 0) return
    const { limits } = await this.#store.inspect({ types: [], limits: names })
    const byName = new Map(limits.map((limit) => [limit.name, limit]))
    refuseUses(
      [[0, { uses }]],
      (name) => byName.get(name) ?? null,
      () => '',
    )
  }

  /** Creates the tasks of due ticks: of each schedule the earliest first, of different schedules at the same time. */
  readonly #tickAll: DueHandler = async (due, now, max) => {
    for (const [id, until] of this.#refused) if (until <= now) this.#refused.delete(id)
    let open = seenOf(due.map((one) => ({ ...one, lastTask: null })))
    open = open.filter(({ schedule }) => !this.#refused.has(schedule.id))
    const times: number[] = []
    let changed = 0
    let refusal: unknown
    while (open.length > 0 && changed < max && this.#fullUntil <= now) {
      const some = open.splice(0, max - changed)
      const ticked = await Promise.allSettled(some.map((seen) => this.#tick(seen, now)))
      for (const [index, one] of ticked.entries()) {
        if (one.status === 'rejected') {
          if (!this.#putOff(some[index]!.schedule.id, one.reason, now)) refusal ??= one.reason
        } else if (one.value) {
          changed += 1
          const { nextAt } = one.value.schedule
          if (nextAt !== null && nextAt <= now) open.push(one.value)
          else if (nextAt !== null) times.push(nextAt)
        }
      }
    }
    // Thrown after the others were handled, so that no schedule delays another one.
    if (refusal !== undefined) throw refusal
    times.push(...this.#refused.values())
    if (this.#fullUntil > now) return { changed, more: false, nextAt: Math.min(this.#fullUntil, ...times) }
    const nextAt = times.length === 0 ? null : Math.min(...times)
    return { changed, more: open.length > 0 || due.length >= max, nextAt }
  }

  /** The schedule after the tick; null: another process has changed it meanwhile. */
  async #tick(seen: Seen, now: number): Promise<Seen | null> {
    const { at, nextAt } = dueTick(seen.schedule, now)
    const next = { ...seen.schedule, nextAt }
    const moved = { text: scheduleText(next), schedule: next }
    if (at !== null) {
      const afterLast = next.overlap === 'skip'
      const answer = await this.#submit(seen, specAt(next, at), { at, next, afterLast, durable: false })
      if (answer !== 'open') return answer === 'accepted' ? moved : null
    }
    const step = { changes: [scheduleChange(next, seen.text)], durable: false }
    return (await this.#store.documents(step)).isChanged ? moved : null
  }

  #submit(
    { text, schedule: { id, task } }: Seen,
    spec: TaskSpec,
    { next, ...rest }: { at: number; next: Schedule; afterLast: boolean; durable: boolean },
  ) {
    const to = { if: { text }, to: scheduleText(next), dueAt: next.nextAt }
    return this.#store.submitWith({ spec, change: { kind: 'schedule', id, type: task.type, ...to }, ...rest })
  }

  /** Handles a refusal of a tick: it remains due. False for one that must be reported. */
  #putOff(id: string, refusal: unknown, now: number): boolean {
    const code = refusal instanceof XQueueError ? refusal.code : null
    if (code === 'queue_full') this.#fullUntil = now + TICK_AGAIN_MS
    // A store that is unavailable for one schedule is so for all, and none of them is to blame.
    else if (code !== 'engine_unavailable' && code !== 'shutting_down') this.#refused.set(id, now + REFUSED_AGAIN_MS)
    return code === 'queue_full'
  }

  async #all(): Promise<Seen[]> {
    return seenOf((await this.#store.documents({ read: READ })).documents[0]!)
  }
}

function seenOf(documents: readonly Document[]): Seen[] {
  const all = documents.map((document) => ({ text: document.text, schedule: scheduleOf(document) }))
  return all.sort((a, b) => (a.schedule.id < b.schedule.id ? -1 : 1))
}

function idIn(change: ScheduleChange): string {
  if ('add' in change) return change.add.id
  if ('keep' in change) return change.keep.id
  if ('alter' in change) return change.alter
  return 'drop' in change ? change.drop : change.run
}
