import { XQueueError } from '../../task/errors.ts'
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
  type Tick,
} from '../../task/schedule.ts'
import type { StoreOptions } from '../options.ts'
import { queueFull, scheduleExists, tooManySchedules, unknownType, unstorable } from '../refusals.ts'
import type { ScheduleChange, Swept } from '../store.ts'
import type { Database } from './database.ts'
import { idOfRef, type Numbers, placeOf } from './ids.ts'
import { submissionOf } from './submissions.ts'

const REF = /^\d+\.\d{13}-\d{10}$/

/** A schedule as it was read; a step compares `text`. */
interface Seen {
  partition: number
  text: string
  schedule: Schedule
}

type Ticked = 'stale' | 'moved' | ['full', waiting: number] | ['unstorable', 1]

/**
 * The schedules, each in the partition of its type, so that a tick and its task are one step there. This class decides
 * and the steps compare: a schedule that has changed meanwhile is read and decided again.
 */
export class Schedules {
  readonly #database: Database
  readonly #options: StoreOptions
  readonly #numbers: Numbers
  readonly #known: () => Promise<string[]>
  readonly #dueAt: (partition: number, time: number) => void

  /** @param known returns the known types, @param dueAt is called when something becomes due */
  constructor(
    database: Database,
    options: StoreOptions,
    numbers: Numbers,
    known: () => Promise<string[]>,
    dueAt: (partition: number, time: number) => void,
  ) {
    this.#database = database
    this.#options = options
    this.#numbers = numbers
    this.#known = known
    this.#dueAt = dueAt
  }

  async list(): Promise<Schedule[]> {
    return (await this.#all()).map(({ schedule }) => schedule)
  }

  async change(change: ScheduleChange): Promise<Schedule[]> {
    for (let attempt = 1; ; attempt++) {
      const all = await this.#all()
      const done = await this.#try(change, all, attempt)
      if (done === 'nothing to do') return all.map(({ schedule }) => schedule)
      if (done) return this.list()
    }
  }

  /** Creates the tasks of the due ticks in a partition, at most `max`. */
  async tick(partition: number, texts: readonly string[], now: number, max: number): Promise<Swept> {
    let [ticks, more] = [0, false]
    const times: number[] = []
    let refusal: unknown
    for (let text of texts) {
      let { nextAt, ...schedule } = JSON.parse(text) as Omit<Schedule, 'lastAt' | 'lastTaskId'>
      while (nextAt !== null && nextAt <= now && ticks < max) {
        const seen = { ...schedule, nextAt, lastAt: null, lastTaskId: null }
        const tick = dueTick(seen, now)
        let ticked: Ticked
        try {
          ticked = await this.#tick({ partition, text, schedule: seen }, tick, schedule.overlap === 'skip')
        } catch (error) {
          // If Redis is unavailable for one schedule, it is for all; any other refusal must not delay the other
          // schedules.
          if (error instanceof XQueueError && error.code === 'engine_unavailable') throw error
          refusal = error
          times.push(now + TICK_AGAIN_MS)
          nextAt = null
          break
        }
        // Another process has handled the tick, and knows the time of the next one; or the queue is full.
        nextAt = ticked === 'moved' ? tick.nextAt : null
        if (ticked === 'moved') ticks += 1
        else if (ticked !== 'stale') times.push(now + TICK_AGAIN_MS)
        text = textOf({ ...seen, nextAt })
      }
      if (nextAt !== null && nextAt <= now) more = true
      else if (nextAt !== null) times.push(nextAt)
    }
    if (refusal !== undefined && ticks === 0) throw refusal
    return {
      changed: ticks,
      more: more || texts.length === max,
      nextAt: times.length === 0 ? null : Math.min(...times),
    }
  }

  /** Whether the change is done; false: the schedule has changed meanwhile. */
  async #try(change: ScheduleChange, all: readonly Seen[], attempt: number): Promise<boolean | 'nothing to do'> {
    const now = this.#database.now()
    const wanted = idIn(change)
    const seen = all.find(({ schedule }) => schedule.id === wanted)
    if ('add' in change) {
      if (!seen) return this.#put(await this.#admitted(change.add, all.length, now), '')
      if (!isSameSchedule(change.add, seen.schedule)) throw scheduleExists(wanted)
      return 'nothing to do'
    }
    if ('keep' in change) return seen ? 'nothing to do' : this.#put(change.keep, '')
    if (!seen) {
      // An earlier attempt of this call removed it, and its answer was lost.
      if ('drop' in change && attempt > 1) return true
      throw noSchedule(wanted)
    }
    if ('alter' in change) return this.#put(changedSchedule(seen.schedule, change.to, now), seen.text)
    if ('drop' in change) return this.#step(seen.partition, [wanted, seen.text, '', '', ''])
    return this.#run(seen, now)
  }

  async #admitted(spec: ScheduleSpec, count: number, now: number): Promise<Schedule> {
    if (count >= SCHEDULE_LIMITS.countMax) throw tooManySchedules()
    const known = await this.#known()
    if (!known.includes(spec.task.type)) throw unknownType(spec.task.type, known)
    return newSchedule(spec, now)
  }

  /** @param before the text that it must have, '' for a new one */
  async #put(schedule: Schedule, before: string): Promise<boolean> {
    const { id, task, nextAt, lastAt, lastTaskId } = schedule
    const partition = this.#database.partitionOf(task.type)
    await this.#database.partitions.add(partition)
    const made = before === '' && lastAt !== null ? `${lastAt} ${lastTaskId ? refOf(partition, lastTaskId) : '-'}` : ''
    const done = await this.#step(partition, [id, before, textOf(schedule), nextAt ?? '', made])
    if (done && nextAt !== null) this.#dueAt(partition, nextAt)
    return done
  }

  async #run(seen: Seen, now: number): Promise<boolean> {
    const { schedule } = seen
    const ticked = await this.#tick(seen, { at: null, nextAt: schedule.nextAt }, false, now)
    if (Array.isArray(ticked)) throw queueFull(ticked[1], this.#options.pendingMax!, 1)
    return ticked === 'moved'
  }

  /** @param runAt the time of a run outside the schedule */
  async #tick({ partition, text, schedule }: Seen, { at, nextAt }: Tick, skips: boolean, runAt: number | null = null) {
    const { args } = submissionOf(
      'tick',
      [{ specs: [specAt(schedule, at)], after: [[]] }],
      this.#numbers,
      this.#options,
      '',
    )
    const moved = [schedule.id, text, textOf({ ...schedule, nextAt }), nextAt ?? '', at ?? runAt ?? '']
    const ticked = await this.#database.run<Ticked>('tick', partition, [...moved, skips ? '1' : '', ...args])
    if (ticked[0] === 'unstorable') throw unstorable(0)
    return ticked
  }

  async #step(partition: number, change: (string | number)[]): Promise<boolean> {
    return (await this.#database.run<'stale' | string[]>('schedules', partition, change)) !== 'stale'
  }

  async #all(): Promise<Seen[]> {
    const answer = await this.#database.partitions.each(async (partition) => {
      const all = await this.#database.run<string[]>('schedules', partition, ['', '', '', '', ''])
      return seenOf(partition, all)
    })
    return answer.flat().sort((a, b) => (a.schedule.id < b.schedule.id ? -1 : 1))
  }
}

function idIn(change: ScheduleChange): string {
  if ('add' in change) return change.add.id
  if ('keep' in change) return change.keep.id
  if ('alter' in change) return change.alter
  return 'drop' in change ? change.drop : change.run
}

/** The text of a schedule without its last task, which is stored separately. */
function textOf({ lastAt: _, lastTaskId: __, ...schedule }: Schedule): string {
  return JSON.stringify(schedule)
}

/** Reads the answer of schedules.lua. */
function seenOf(partition: number, answer: readonly string[]): Seen[] {
  const seen: Seen[] = []
  for (let index = 0; index < answer.length; index += 3) {
    const [text, made] = [answer[index + 1]!, answer[index + 2]!]
    const [at = '', task = '-'] = made.split(' ')
    const lastTaskId = task === '-' ? null : REF.test(task) ? idOfRef(partition, task) : task
    const last = { lastAt: at === '' ? null : Number(at), lastTaskId }
    seen.push({ partition, text, schedule: { ...JSON.parse(text), ...last } })
  }
  return seen
}

/** The name of the task in steps; a task from another engine keeps its id, and has none. */
function refOf(partition: number, taskId: string): string {
  const place = placeOf(taskId)
  return place?.partition === partition ? place.ref : taskId
}
