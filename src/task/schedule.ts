import { XQueueError } from './errors.ts'
import { canonical, type Json, write } from './json.ts'
import { completeSpec, isSameAsked, type TaskSpec, withoutDefaults } from './task.ts'
import { changedTiming, nextTick, type Timing, type TimingChange, ticksBetween } from './timing.ts'

/** The task that a schedule makes at each of its ticks. */
export type ScheduledTask = Omit<TaskSpec, 'delayMs' | 'runAt' | 'idempotencyKey' | 'after' | 'onFailure' | 'batch'>

/**
 * What becomes of the ticks that nobody was there for: `none` of them makes a task, or `one` does for all of them, or
 * `all` do, the latest `catchUpTicksMax` at most.
 */
export const CATCH_UPS = ['none', 'one', 'all'] as const
export type CatchUp = (typeof CATCH_UPS)[number]

/** Whether a tick makes a task while the last one of its schedule has not ended: `skip` says no. */
export const OVERLAPS = ['allow', 'skip'] as const
export type Overlap = (typeof OVERLAPS)[number]

/** A tick that found the queue full is tried again after this long. */
export const TICK_AGAIN_MS = 1_000

/** A schedule as it is asked for. */
export interface ScheduleSpec {
  /** A name that the caller chooses, of the form that a type's has. */
  id: string
  /** Its type is the schedule's for good. */
  task: ScheduledTask
  timing: Timing
  catchUp: CatchUp
  overlap: Overlap
  paused: boolean
}

export interface Schedule extends ScheduleSpec {
  /** The tick that comes next; null while it is paused, and when none will ever come. */
  nextAt: number | null
  /** When it last made a task: the tick, or the moment at which somebody had it run out of turn. */
  lastAt: number | null
  lastTaskId: string | null
  createdAt: number
  updatedAt: number
}

/** What may be changed of a schedule: of its task all but the type, which says what the rest was judged by. */
export type ScheduleChanges = Partial<Omit<ScheduleSpec, 'id' | 'task' | 'timing'>> & {
  timing?: TimingChange
  task?: Partial<ScheduledTask> & Pick<ScheduledTask, 'type'>
}

export const SCHEDULE_DEFAULTS = { catchUp: 'one', overlap: 'allow', paused: false } as const

export const SCHEDULE_LIMITS = {
  countMax: 1_000,
  /** Less than a task's: every process reads all schedules. */
  payloadBytesMax: 64 * 1024,
  catchUpTicksMax: 100,
} as const

/** With `none`, a tick that comes no later than this still counts as on time: somebody was there, only busy. */
export const ON_TIME_MS = 60_000

/** A schedule as it begins. */
export function newSchedule(spec: ScheduleSpec, now: number): Schedule {
  const nextAt = spec.paused ? null : nextTick(spec.timing, now)
  return { ...spec, nextAt, lastAt: null, lastTaskId: null, createdAt: now, updatedAt: now }
}

/**
 * A schedule after a change. With other times, or after a pause, it counts from now: nothing was missed.
 * @throws XQueueError `not_found` if the change is for one of another type: that one has been removed meanwhile;
 *   `invalid_request` for the time zone of an interval
 */
export function changedSchedule(schedule: Schedule, changes: ScheduleChanges, now: number): Schedule {
  const { task, timing: times, ...rest } = changes
  if (task && task.type !== schedule.task.type) throw noSchedule(schedule.id)
  const timing = times ? changedTiming(schedule.timing, times) : schedule.timing
  const changed = { ...schedule, ...rest, timing, task: { ...schedule.task, ...task }, updatedAt: now }
  const { byDefault } = schedule.task
  if (byDefault && task) changed.task.byDefault = byDefault.filter((field) => task[field] === undefined)
  if (changed.paused) return { ...changed, nextAt: null }
  if (!schedule.paused && same(timing, schedule.timing)) return changed
  return { ...changed, nextAt: nextTick(timing, now) }
}

export function noSchedule(id: string): XQueueError {
  return new XQueueError('not_found', `schedule ${JSON.stringify(id)} not found: see /api/v1/schedules`)
}

/** Whether a schedule is asked for that is there already. */
export function isSameSchedule(spec: ScheduleSpec, schedule: Schedule): boolean {
  const { id, timing, catchUp, overlap, paused } = schedule
  const { task, ...asked } = spec
  if (!same(asked, { id, timing, catchUp, overlap, paused })) return false
  return isSameAsked(withoutDefaults(schedule.task), withoutDefaults(task))
}

/** The tick that makes a task now, if any, and the one that is next after it: it may be due as well. */
export interface Tick {
  at: number | null
  nextAt: number | null
}

/** What a schedule whose `nextAt` is over has to do first. */
export function dueTick({ nextAt, timing, catchUp, overlap }: Schedule, now: number): Tick {
  if (nextAt === null || nextAt > now) return { at: null, nextAt }
  // Of several at once the first would keep the others from their tasks.
  const all = catchUp === 'all' && overlap === 'allow'
  const ticks = ticksBetween(timing, nextAt, now, all ? SCHEDULE_LIMITS.catchUpTicksMax : 1)
  const [first = null, second] = ticks
  const missed = catchUp === 'none' && first !== null && now - first > ON_TIME_MS
  return { at: missed ? null : first, nextAt: second ?? nextTick(timing, now) }
}

/**
 * The task of a tick, or of a run out of turn. The key says which tick it is of, and lets no other task be made for it,
 * also by a schedule that was lost and is there again.
 */
export function specAt({ id, task }: Schedule, tick: number | null): TaskSpec {
  return completeSpec({ ...wellFormed(task), idempotencyKey: tick === null ? null : tickKey(id, tick) })
}

/** One that was made before such text was refused goes on: what is no Unicode is repaired. */
function wellFormed(task: ScheduledTask): ScheduledTask {
  const text = JSON.stringify(task)
  if (!text.includes('\\ud')) return task
  const outcome = write(task)
  return 'written' in outcome ? JSON.parse(outcome.written.text) : task
}

export function tickKey(id: string, tick: number): string {
  return `schedule:${id}:${new Date(tick).toISOString()}`
}

/** The schedule and the tick that a key was made for; null for any other key. */
export function tickOfKey(key: string | null): { id: string; at: number } | null {
  const [, id, time] = /^schedule:(.+):(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)$/.exec(key ?? '') ?? []
  return id === undefined || time === undefined ? null : { id, at: Date.parse(time) }
}

function same(a: unknown, b: unknown): boolean {
  return canonical(a as Json) === canonical(b as Json)
}
