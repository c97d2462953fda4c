import { parseDurationMs } from './duration.ts'
import { type FieldError, invalidField, XQueueError } from './errors.ts'
import { Type } from './json-schema.ts'
import {
  CATCH_UPS,
  type CatchUp,
  OVERLAPS,
  type Overlap,
  SCHEDULE_DEFAULTS,
  SCHEDULE_LIMITS,
  type Schedule,
  type ScheduleChanges,
  type ScheduledTask,
  type ScheduleSpec,
} from './schedule.ts'
import { TASK_LIMITS, TYPE_PATTERN } from './task.ts'
import { durationOf, type KnownType, specOf, type TaskInput, TaskInputSchema, throwErrors } from './task-input.ts'
import { isoTime } from './task-json.ts'
import {
  CRON_CHARS_MAX,
  checkCron,
  checkEvery,
  checkTimezone,
  EVERY_MS_MIN,
  TIMEZONE_DEFAULT,
  type Timing,
  type TimingChange,
  timezoneAlone,
  upcoming,
} from './timing.ts'
import { NO_USES } from './uses.ts'

/** A schedule in requests and answers: snake_case, seconds, RFC 3339. */

const UPCOMING = 5
/** Our own formats, which only their parsers check. */
export const CRON_FORMAT = 'cron'
export const TIMEZONE_FORMAT = 'time-zone'
const { type, payload, priority, max_retry, queue_timeout, process_timeout, tags, group, uses } =
  TaskInputSchema.properties
/** The fields of the tasks that a schedule submits. */
const taskFields = { payload, priority, max_retry, queue_timeout, process_timeout, tags, group, uses }
const closed = { additionalProperties: false }
const id = Type.String({
  maxLength: 100,
  pattern: TYPE_PATTERN.source,
  description: 'Name of the schedule, with the same characters as a type',
})

const timingFields = {
  cron: Type.String({
    maxLength: CRON_CHARS_MAX,
    format: CRON_FORMAT,
    description: 'Five fields, such as "30 2 * * MON-FRI"',
  }),
  timezone: Type.String({
    maxLength: 60,
    format: TIMEZONE_FORMAT,
    description: 'IANA time zone of cron (default: UTC)',
  }),
  every: durationOf({ title: 'Interval', least: EVERY_MS_MIN, most: TASK_LIMITS.durationMsMax }),
}
/** A cron expression with its time zone, or an interval. */
const oneTiming = [{ not: { required: ['every', 'cron'] } }, { not: { required: ['timezone', 'every'] } }]
const anyTiming = [{ required: ['cron'] }, { required: ['every'] }]

const changeFields = {
  ...taskFields,
  ...timingFields,
  catch_up: Type.Enum([...CATCH_UPS], { description: 'Handling of missed ticks (default: one)' }),
  overlap: Type.Enum([...OVERLAPS], {
    description: 'skip: no task while the previous one has not ended (default: allow)',
  }),
  paused: Type.Boolean(),
}

export const ScheduleInputSchema = Type.Object(
  { id, type, ...changeFields },
  { ...closed, title: 'ScheduleInput', required: ['id', 'type'], allOf: oneTiming, anyOf: anyTiming },
)
export const ScheduleChangesSchema = Type.Object(changeFields, {
  ...closed,
  title: 'ScheduleChanges',
  required: [],
  allOf: oneTiming,
  minProperties: 1,
})
export const TimingSchema = Type.Object(timingFields, {
  ...closed,
  title: 'Timing',
  required: [],
  allOf: oneTiming,
  anyOf: anyTiming,
})

export interface TimingInput {
  cron?: string
  timezone?: string
  every?: number | string
}

export interface ScheduleChangesInput
  extends TimingInput,
    Omit<TaskInput, 'type' | 'delay' | 'run_at' | 'idempotency_key' | 'after' | 'on_failure' | 'batch'> {
  catch_up?: CatchUp
  overlap?: Overlap
  paused?: boolean
}

export interface ScheduleInput extends ScheduleChangesInput {
  id: string
  type: string
}

/** @throws XQueueError `invalid_request`, `invalid_payload` */
export async function scheduleSpecOf(input: ScheduleInput, known: KnownType | null): Promise<ScheduleSpec> {
  return {
    id: input.id,
    timing: timingOf(input),
    task: await taskOf(input, known),
    catchUp: input.catch_up ?? SCHEDULE_DEFAULTS.catchUp,
    overlap: input.overlap ?? SCHEDULE_DEFAULTS.overlap,
    paused: input.paused ?? SCHEDULE_DEFAULTS.paused,
  }
}

/**
 * Missing fields stay unchanged.
 * @param type the schedule's type, which validates its payload
 * @throws like `scheduleSpecOf`
 */
export async function scheduleChangesOf(
  input: ScheduleChangesInput,
  type: string,
  known: KnownType | null,
): Promise<ScheduleChanges> {
  const { cron, timezone, every, catch_up, overlap, paused, ...fields } = input
  // An unchanged payload is not validated again, so that a schedule can always be paused.
  const judge = 'payload' in fields ? known : known && { ...known, check: () => [] }
  const checked = await taskOf({ ...fields, type }, judge)
  const names = Object.keys(fields).map((name) => FIELDS[name as keyof typeof FIELDS])
  const task = Object.fromEntries(names.map((name) => [name, checked[name]]))
  const timing = timingChangeOf(given({ cron, timezone, every }))
  return {
    ...given({ catchUp: catch_up, overlap, paused, timing }),
    ...(names.length > 0 ? { task: { ...task, type } } : {}),
  }
}

const FIELDS = {
  payload: 'payload',
  priority: 'priority',
  max_retry: 'maxRetry',
  queue_timeout: 'queueTimeoutMs',
  process_timeout: 'processTimeoutMs',
  tags: 'tags',
  group: 'group',
  uses: 'uses',
} as const

/** @throws XQueueError `invalid_request` */
export function timingOf({ cron, timezone, every }: TimingInput): Timing {
  if (cron !== undefined) {
    const timing = { cron, timezone: timezone ?? TIMEZONE_DEFAULT }
    checkCron(timing.cron, timing.timezone)
    return timing
  }
  if (timezone !== undefined) throw timezoneAlone()
  if (every === undefined)
    throw invalidField('cron', 'is required, such as "30 2 * * MON-FRI", or use every, such as "15m"')
  let everyMs: number
  try {
    everyMs = parseDurationMs(every)
  } catch (error) {
    throw invalidField('every', (error as Error).message)
  }
  checkEvery(everyMs)
  return { everyMs }
}

/** @throws XQueueError `invalid_request` */
function timingChangeOf(input: TimingInput): TimingChange | undefined {
  const { cron, timezone, every } = input
  if (every !== undefined) return timingOf(input)
  if (timezone !== undefined) checkTimezone(timezone)
  if (cron !== undefined) checkCron(cron, timezone ?? TIMEZONE_DEFAULT)
  return cron === undefined && timezone === undefined ? undefined : given({ cron, timezone })
}

/** The next ticks, RFC 3339. */
export function upcomingOf(timing: Timing, after: number): string[] {
  return upcoming(timing, after, UPCOMING).map((at) => isoTime(at))
}

export function scheduleJson(schedule: Schedule, now: number) {
  const { task, timing } = schedule
  return {
    id: schedule.id,
    type: task.type,
    payload: task.payload,
    priority: task.priority,
    group: task.group,
    uses: task.uses ?? NO_USES,
    tags: task.tags,
    max_retry: task.maxRetry,
    queue_timeout: task.queueTimeoutMs / 1_000,
    process_timeout: task.processTimeoutMs / 1_000,
    cron: 'cron' in timing ? timing.cron : null,
    timezone: 'cron' in timing ? timing.timezone : null,
    every: 'everyMs' in timing ? timing.everyMs / 1_000 : null,
    catch_up: schedule.catchUp,
    overlap: schedule.overlap,
    paused: schedule.paused,
    next_at: isoTime(schedule.nextAt),
    last_at: isoTime(schedule.lastAt),
    last_task_id: schedule.lastTaskId,
    created_at: isoTime(schedule.createdAt),
    updated_at: isoTime(schedule.updatedAt),
    upcoming: schedule.paused ? [] : upcomingOf(timing, now),
  }
}

export type ScheduleJson = ReturnType<typeof scheduleJson>

async function taskOf(input: TaskInput, known: KnownType | null): Promise<ScheduledTask> {
  const { type, payload, priority, max_retry, queue_timeout, process_timeout, tags, group, uses } = input
  const fields = given({ payload, priority, max_retry, queue_timeout, process_timeout, tags, group, uses })
  const errors: FieldError[] = []
  const spec = await specOf({ type, ...fields }, known, '', errors)
  throwErrors(errors)
  const { delayMs: _, runAt: __, idempotencyKey: ___, after: ____, onFailure: _____, batch: ______, ...task } = spec
  const bytes = Buffer.byteLength(JSON.stringify(task.payload))
  if (bytes <= SCHEDULE_LIMITS.payloadBytesMax) return task
  const detail = `payload has ${bytes} bytes, the maximum of a schedule is ${SCHEDULE_LIMITS.payloadBytesMax}`
  throw new XQueueError('too_large', `${detail}: store the data elsewhere and submit a reference`)
}

/** Without what is undefined. */
function given<T extends object>(fields: T): { [Name in keyof T]?: Exclude<T[Name], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as never
}
