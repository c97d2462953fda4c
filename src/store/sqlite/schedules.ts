import type { XQueueError } from '../../task/errors.ts'
import {
  changedSchedule,
  dueTick,
  isSameSchedule,
  newSchedule,
  noSchedule,
  SCHEDULE_LIMITS,
  type Schedule,
  type ScheduleSpec,
  specAt,
  TICK_AGAIN_MS,
} from '../../task/schedule.ts'
import { isFinal, type Status } from '../../task/status.ts'
import type { TaskSpec } from '../../task/task.ts'
import { scheduleExists, tooManySchedules, unknownType } from '../refusals.ts'
import type { ScheduleChange } from '../store.ts'
import type { Database, Row } from './database.ts'
import type { Submitter } from './submitter.ts'
import type { Registry } from './types.ts'
import type { Tx } from './writer.ts'

/** A schedule whose task was refused is tried again after this time. */
const APART_MS = 60_000

/** The schedules of a file. Each tick creates exactly one task, because both change in the transaction passed in. */
export class Schedules {
  readonly #registry: Registry
  readonly #submitter: Submitter
  #fullUntil = 0
  /** Schedules whose task was refused, and the time until which they are skipped. */
  readonly #apart = new Map<string, number>()

  constructor(registry: Registry, submitter: Submitter) {
    this.#registry = registry
    this.#submitter = submitter
  }

  list(database: Database): Schedule[] {
    return database.all('schedules').map(scheduleOf)
  }

  /** The time at which the next one is due or, while the queue is full, is tried again. */
  nextAt(database: Database): number | null {
    const apart = [...this.#apart.keys()]
    const next = apart.length === 0 ? database.get('nextTick') : database.get('nextTickBut', JSON.stringify(apart))
    const at = Math.min((next!.at as number | null) ?? Number.POSITIVE_INFINITY, ...this.#apart.values())
    return at === Number.POSITIVE_INFINITY ? null : Math.max(at, this.#fullUntil)
  }

  change(tx: Tx, change: ScheduleChange): Schedule[] {
    this.#apart.clear()
    if ('add' in change) this.#add(tx, change.add)
    else if ('alter' in change) put(tx, changedSchedule(this.#get(tx, change.alter), change.to, tx.now))
    else if ('run' in change) this.#run(tx, this.#get(tx, change.run), null)
    else if ('drop' in change) {
      if (tx.database.run('dropSchedule', change.drop) === 0) throw noSchedule(change.drop)
    } else if (!tx.database.get('scheduleById', change.keep.id)) {
      this.#registry.insert(change.keep.task.type)
      put(tx, change.keep)
    }
    return this.list(tx.database)
  }

  /** Creates the tasks of the due ticks; returns the number of ticks. */
  tick(tx: Tx, max: number): number {
    let ticks = 0
    if (this.#fullUntil > tx.now) return ticks
    for (const row of tx.database.all('dueSchedules', tx.now, max)) {
      const schedule = scheduleOf(row)
      if ((this.#apart.get(schedule.id) ?? 0) > tx.now) continue
      this.#apart.delete(schedule.id)
      for (; ticks < max && schedule.nextAt !== null && schedule.nextAt <= tx.now; ticks++) {
        const { at, nextAt } = dueTick(schedule, tx.now)
        try {
          if (at !== null && !this.#skips(tx, schedule)) this.#run(tx, schedule, at)
        } catch (error) {
          if ((error as XQueueError).code !== 'queue_full') {
            // Skipped next time, so that it does not delay the other schedules.
            this.#apart.set(schedule.id, tx.now + APART_MS)
            throw error
          }
          this.#fullUntil = tx.now + TICK_AGAIN_MS
          return ticks
        }
        tx.database.run('moveSchedule', schedule.id, nextAt)
        schedule.nextAt = nextAt
      }
    }
    return ticks
  }

  #add(tx: Tx, spec: ScheduleSpec): void {
    const known = tx.database.get('scheduleById', spec.id)
    if (known && !isSameSchedule(spec, scheduleOf(known))) throw scheduleExists(spec.id)
    if (known) return
    if ((tx.database.get('countSchedules')!.n as number) >= SCHEDULE_LIMITS.countMax) throw tooManySchedules()
    const { type } = spec.task
    if (!this.#registry.isKnown(type, tx.now)) throw unknownType(type, this.#registry.known(tx.now))
    put(tx, newSchedule(spec, tx.now))
  }

  #get(tx: Tx, id: string): Schedule {
    const row = tx.database.get('scheduleById', id)
    if (!row) throw noSchedule(id)
    return scheduleOf(row)
  }

  /** Whether the task of an earlier tick prevents this tick from creating one. */
  #skips(tx: Tx, { overlap, lastTaskId }: Schedule): boolean {
    if (overlap === 'allow' || lastTaskId === null) return false
    const status = tx.database.get('taskStatus', lastTaskId)?.status as Status | undefined
    return status !== undefined && !isFinal(status)
  }

  /** @param tick null: outside the schedule */
  #run(tx: Tx, schedule: Schedule, tick: number | null): void {
    schedule.lastTaskId = this.#accept(tx, specAt(schedule, tick))
    tx.database.run('ranSchedule', schedule.id, tick ?? tx.now, schedule.lastTaskId)
  }

  /** Returns its id, or the id of the task that another client has submitted under the key of this tick. */
  #accept(tx: Tx, spec: TaskSpec): string {
    try {
      return this.#submitter.accept(tx, [spec])[0]!.task.id
    } catch (error) {
      const { code, details } = error as XQueueError
      if (code === 'idempotency_conflict' && details.task_id) return details.task_id
      throw error
    }
  }
}

function put({ database }: Tx, { nextAt, lastAt, lastTaskId, ...body }: Schedule): void {
  database.run('putSchedule', body.id, JSON.stringify(body), nextAt, lastAt, lastTaskId)
}

function scheduleOf({ body, next_at, last_at, last_task_id }: Row): Schedule {
  const state = { nextAt: next_at, lastAt: last_at, lastTaskId: last_task_id }
  return { ...JSON.parse(body as string), ...state } as Schedule
}
