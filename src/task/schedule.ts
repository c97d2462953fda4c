import { XQueueError } from './errors.ts'
import { canonical, type Json, write } from './json.ts'
import { completeSpec, isSameAsked, type TaskSpec, withoutDefaults } from './task.ts'
import { changedTiming, nextTick, type Timing, type TimingChange, ticksBetween } from './timing.ts'

/** The task that a schedule creates at each tick. */
export type ScheduledTask = Omit<TaskSpec, 'delayMs' | 'runAt' | 'idempotencyKey' | 'after' | 'onFailure' | 'batch'>

/**
 * Handling of missed ticks: `none` creates no task, `one` creates one task for all of them, `all` creates a task for
 * each, for the latest `catchUpTicksMax` at most.
 */
export const CATCH_UPS = ['none', 'one', 'all'] as const
export type CatchUp = (typeof CATCH_UPS)[number]

/** Whether a tick creates a task while the previous task has not ended; `skip` does not. */
export const OVERLAPS = ['allow', 'skip'] as const
export type Overlap = (typeof OVERLAPS)[number]

/** Delay before a tick is repeated that found the queue full. */
export const TICK_AGAIN_MS = 1_000

/** A requested schedule. */
export interface ScheduleSpec {
  /** A name that the caller chooses, with the same characters as a type. */
  id: string
  /** The type of a schedule never changes. */
  task: ScheduledTask
  timing: Timing
  catchUp: CatchUp
  overlap: Overlap
  paused: boolean
}

export interface Schedule extends ScheduleSpec {
  /** The next tick; null while the schedule is paused, and if no tick will follow. */
  nextAt: number | null
  /** Time of the latest task: the tick, or the time of a manual run. */
  lastAt: number | null
  lastTaskId: string | null
  createdAt: number
  updatedAt: number
}

/** The changeable fields of a schedule: all but the type, which validated the rest. */
export type ScheduleChanges = Partial<Omit<ScheduleSpec, 'id' | 'task' | 'timing'>> & {
  timing?: TimingChange
  task?: Partial<ScheduledTask> & Pick<ScheduledTask, 'type'>
}

/**
 * `add` with an identical schedule changes nothing. `run` creates a task outside the schedule, regardless of `overlap`.
 * `keep` stores a schedule as it is, with its times, unless it exists already: for recovery, and for migration from
 * another store.
 */
export type ScheduleChange =
  | { add: ScheduleSpec }
  | { alter: string; to: ScheduleChanges }
  | { drop: string }
  | { run: string }
  | { keep: Schedule }

export const SCHEDULE_DEFAULTS = { catchUp: 'one', overlap: 'allow', paused: false } as const

export const SCHEDULE_LIMITS = {
  countMax: 1_000,
  /** Smaller than for tasks, because every process reads all schedules. */
  payloadBytesMax: 64 * 1024,
  catchUpTicksMax: 100,
} as const

/** With `none`, a tick with at most this delay still counts as on time: a process was running, but busy. */
export const ON_TIME_MS = 60_000

/** The initial state of a schedule. */
export function newSchedule(spec: ScheduleSpec, now: number): Schedule {
  const nextAt = spec.paused ? null : nextTick(spec.timing, now)
  return { ...spec, nextAt, lastAt: null, lastTaskId: null, createdAt: now, updatedAt: now }
}

/**
 * A schedule after a change. With new times, or after a pause, it counts from now and has no missed ticks.
 * @throws XQueueError `not_found` if the change is for another type, because that schedule has been removed;
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

/** Whether the requested schedule equals an existing one. */
export function isSameSchedule(spec: ScheduleSpec, schedule: Schedule): boolean {
  const { id, timing, catchUp, overlap, paused } = schedule
  const { task, ...asked } = spec
  if (!same(asked, { id, timing, catchUp, overlap, paused })) return false
  return isSameAsked(withoutDefaults(schedule.task), withoutDefaults(task))
}

/** The tick that creates a task now, if any, and the next one after it, which may also be due. */
export interface Tick {
  at: number | null
  nextAt: number | null
}

/** The first step of a schedule whose `nextAt` has passed. */
export function dueTick({ nextAt, timing, catchUp, overlap }: Schedule, now: number): Tick {
  if (nextAt === null || nextAt > now) return { at: null, nextAt }
  // With several at once, the first task would prevent the others.
  const all = catchUp === 'all' && overlap === 'allow'
  const ticks = ticksBetween(timing, nextAt, now, all ? SCHEDULE_LIMITS.catchUpTicksMax : 1)
  const [first = null, second] = ticks
  const missed = catchUp === 'none' && first !== null && now - first > ON_TIME_MS
  return { at: missed ? null : first, nextAt: second ?? nextTick(timing, now) }
}

/**
 * The task of a tick or of a manual run. Its key contains the tick, so that no second task is created for it, not even
 * by a schedule that was lost and restored.
 */
export function specAt({ id, task }: Schedule, tick: number | null): TaskSpec {
  return completeSpec({ ...wellFormed(task), idempotencyKey: tick === null ? null : tickKey(id, tick) })
}

/** Repairs text that is not Unicode in schedules from before such text was refused. */
function wellFormed(task: ScheduledTask): ScheduledTask {
  const text = JSON.stringify(task)
  if (!text.includes('\\ud')) return task
  const outcome = write(task)
  return 'written' in outcome ? JSON.parse(outcome.written.text) : task
}

export function tickKey(id: string, tick: number): string {
  return `schedule:${id}:${new Date(tick).toISOString()}`
}

/** The schedule and the tick of a key; null for any other key. */
export function tickOfKey(key: string | null): { id: string; at: number } | null {
  const [, id, time] = /^schedule:(.+):(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)$/.exec(key ?? '') ?? []
  return id === undefined || time === undefined ? null : { id, at: Date.parse(time) }
}

function same(a: unknown, b: unknown): boolean {
  return canonical(a as Json) === canonical(b as Json)
}
