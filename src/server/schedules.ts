import type { FastifyRequest } from 'fastify'
import type { Queue, ScheduleChange } from '../queue/queue.ts'
import { Type } from '../task/json-schema.ts'
import { CATCH_UPS, noSchedule, OVERLAPS, type Schedule } from '../task/schedule.ts'
import {
  type ScheduleChangesInput,
  ScheduleChangesSchema,
  type ScheduleInput,
  ScheduleInputSchema,
  scheduleChangesOf,
  scheduleJson,
  scheduleSpecOf,
  type TimingInput,
  TimingSchema,
  timingOf,
  upcomingOf,
} from '../task/schedule-input.ts'
import { described, json, listOf, orNull, ref, seconds, time, timeOrNull } from './fields.ts'
import type { Route, ServerContext } from './route.ts'
import { IdParams } from './schemas.ts'

const Upcoming = Type.Array(time('A tick'), { description: 'The next five ticks' })

export const ScheduleSchema = Type.Object(
  {
    id: Type.String(),
    type: Type.String(),
    payload: json('Any JSON'),
    priority: Type.Integer(),
    group: orNull('string'),
    uses: Type.Record(Type.Integer()),
    tags: Type.Record(Type.String()),
    max_retry: Type.Integer(),
    queue_timeout: seconds('Maximum wait of each task for its first start; 0 = no limit'),
    process_timeout: seconds('Maximum duration of an attempt; 0 = no limit'),
    cron: orNull('string'),
    timezone: orNull('string'),
    every: orNull('number', { description: 'In seconds' }),
    catch_up: { enum: CATCH_UPS },
    overlap: { enum: OVERLAPS },
    paused: Type.Boolean(),
    next_at: timeOrNull('The next tick'),
    last_at: timeOrNull('Time of the latest task'),
    last_task_id: orNull('string'),
    created_at: time('Time of creation'),
    updated_at: time('Time of the latest change'),
    upcoming: Upcoming,
  },
  { $id: 'Schedule' },
)

const SCHEDULE = described(ref('Schedule'), 'The schedule')

/** /api/v1/schedules: recurring tasks. */
export function scheduleRoutes(context: ServerContext): Route[] {
  return [
    addSchedule(context),
    previewSchedule(),
    listSchedules(context),
    getSchedule(context),
    changeSchedule(context),
    removeSchedule(context),
    runSchedule(context),
  ]
}

function addSchedule({ queue, types, limits, basePath }: ServerContext): Route {
  return {
    method: 'POST',
    url: '/api/v1/schedules',
    scope: 'admin',
    summary: 'Add a schedule; adding an equal one changes nothing',
    answers: { 201: described(SCHEDULE, 'Added'), 200: described(SCHEDULE, 'An equal schedule exists') },
    refusals: ['unknown_type', 'unknown_limit', 'invalid_payload', 'schedule_exists', 'too_many_schedules'],
    body: ScheduleInputSchema,
    bodyLimit: limits.taskBytesMax,
    handler: async (request, reply) => {
      const input = request.body as ScheduleInput
      const spec = await scheduleSpecOf(input, await types.of(input.type))
      // Of two concurrent calls, both may get 201.
      const known = (await queue.schedules()).some(({ id }) => id === spec.id)
      const added = await find(queue, spec.id, { add: spec })
      return reply
        .status(known ? 200 : 201)
        .header('Location', `${basePath}/api/v1/schedules/${spec.id}`)
        .send(answer(added))
    },
  }
}

function previewSchedule(): Route {
  return {
    method: 'POST',
    url: '/api/v1/schedules/preview',
    scope: 'read',
    quiet: true,
    summary: 'Preview the next five ticks of a cron expression or an interval',
    answers: { 200: Type.Object({ upcoming: Upcoming }) },
    body: TimingSchema,
    handler: async (request) => ({ upcoming: upcomingOf(timingOf(request.body as TimingInput), Date.now()) }),
  }
}

function listSchedules({ queue }: ServerContext): Route {
  return {
    method: 'GET',
    url: '/api/v1/schedules',
    scope: 'read',
    summary: 'List all schedules by id',
    answers: { 200: listOf('schedules', ref('Schedule'), 'ScheduleList') },
    handler: async () => {
      const schedules = (await queue.schedules()).map(answer)
      return { schedules, count: schedules.length }
    },
  }
}

function getSchedule({ queue }: ServerContext): Route {
  return {
    method: 'GET',
    url: '/api/v1/schedules/:id',
    scope: 'read',
    summary: 'Get a schedule with its next five ticks',
    answers: { 200: SCHEDULE },
    refusals: ['not_found'],
    params: IdParams,
    handler: async (request) => answer(await find(queue, idOf(request))),
  }
}

function changeSchedule({ queue, types, limits }: ServerContext): Route {
  return {
    method: 'PATCH',
    url: '/api/v1/schedules/:id',
    scope: 'admin',
    summary: 'Change the given fields of a schedule, including `paused`',
    answers: { 200: SCHEDULE },
    refusals: ['not_found', 'unknown_limit', 'invalid_payload'],
    params: IdParams,
    body: ScheduleChangesSchema,
    bodyLimit: limits.taskBytesMax,
    handler: async (request) => {
      const { id, task } = await find(queue, idOf(request))
      const to = await scheduleChangesOf(request.body as ScheduleChangesInput, task.type, await types.of(task.type))
      return answer(await find(queue, id, { alter: id, to }))
    },
  }
}

function removeSchedule({ queue }: ServerContext): Route {
  return {
    method: 'DELETE',
    url: '/api/v1/schedules/:id',
    scope: 'admin',
    summary: 'Remove a schedule; its tasks stay',
    answers: { 200: SCHEDULE },
    refusals: ['not_found'],
    params: IdParams,
    handler: async (request) => {
      const schedule = await find(queue, idOf(request))
      await queue.schedules({ drop: schedule.id })
      return answer(schedule)
    },
  }
}

function runSchedule({ queue }: ServerContext): Route {
  return {
    method: 'POST',
    url: '/api/v1/schedules/:id/run',
    scope: 'admin',
    summary: 'Create its task now, also while it is paused; `last_task_id` is the id of the task',
    answers: { 201: SCHEDULE },
    refusals: ['not_found', 'queue_full'],
    params: IdParams,
    handler: async (request, reply) => {
      const id = idOf(request)
      return reply.status(201).send(answer(await find(queue, id, { run: id })))
    },
  }
}

function idOf(request: FastifyRequest): string {
  return (request.params as { id: string }).id
}

/** The schedule after the change. @throws XQueueError `not_found`, also if it was removed meanwhile */
async function find(queue: Queue, id: string, change?: ScheduleChange): Promise<Schedule> {
  const found = (await queue.schedules(change)).find((schedule) => schedule.id === id)
  if (!found) throw noSchedule(id)
  return found
}

function answer(schedule: Schedule) {
  return scheduleJson(schedule, Date.now())
}
