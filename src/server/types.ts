import type { FastifyRequest } from 'fastify'
import { type GroupTurns, RATE_LIMITS, type Rate, type TypeChange, type TypeInfo } from '../queue/queue.ts'
import { parseDurationMs } from '../task/duration.ts'
import { invalidField, XQueueError } from '../task/errors.ts'
import { Type } from '../task/json-schema.ts'
import { withoutTokens } from '../task/masking.ts'
import { durationOf } from '../task/task-input.ts'
import { isoTime } from '../task/task-json.ts'
import { described, listOf, nullable, orNull, ref, timeOrNull } from './fields.ts'
import type { Route, ServerContext } from './route.ts'
import { TypeParams } from './schemas.ts'
import { ceilingsOf, retentionOf, type TypeInput, TypeInputSchema } from './type-input.ts'
import {
  ceilingsJson,
  GroupTurnsSchema,
  holderJson,
  RateSchema,
  rateJson,
  retentionJson,
  typeJson,
} from './type-json.ts'

export const MaxSchema = { type: ['integer', 'null'], minimum: 1, maximum: 1_000_000 }

const TYPE = described(ref('TaskType'), 'The type')

const Limits = Type.Object({
  limits: Type.Record(Type.Integer()),
  in_use: Type.Record(Type.Integer()),
  count: Type.Integer(),
})

const Limit = Type.Object({
  task_type: Type.String(),
  max_concurrency: orNull('integer'),
  group_concurrency: orNull('integer'),
  group_turns: GroupTurnsSchema,
  rate: nullable(RateSchema, 'At most `max` starts in any `per` seconds'),
  in_use: Type.Integer(),
  waiting: Type.Integer({ description: 'Ready and delayed tasks, and those that wait for others' }),
  paused: Type.Boolean({ description: 'true: starts no tasks' }),
  held_until: timeOrNull('No task starts before this time; null: not held'),
  holders: Type.Array(ref('Holder')),
})

const LimitSet = Type.Object({
  task_type: Type.String(),
  max_concurrency: orNull('integer'),
  group_concurrency: Type.Optional(orNull('integer')),
  group_turns: Type.Optional(GroupTurnsSchema),
})

interface LimitInput {
  task_type: string
  max_concurrency?: number | null
  group_concurrency?: number | null
  group_turns?: GroupTurns
}

/** Maximum number of declared types; handlers can add more. */
const DECLARED_MAX = 10_000

/** Names in the API. */
const CHANGED: Record<string, string> = {
  maxConcurrency: 'max_concurrency',
  groupConcurrency: 'group_concurrency',
  groupTurns: 'group_turns',
  heldUntil: 'held_until',
}

export const RateInputSchema = Type.Object(
  {
    max: Type.Integer({ minimum: 1, maximum: RATE_LIMITS.max }),
    per: durationOf({ title: 'RateWindow', least: 1, most: RATE_LIMITS.perMs }),
  },
  { additionalProperties: false, title: 'RateInput' },
)

export interface RateInput {
  max: number | null
  per?: number | string
}

/** /api/v1/types and /concurrency. */
export function typeRoutes(context: ServerContext): Route[] {
  return [
    listTypes(context),
    setType(context),
    pauseType(context),
    resumeType(context),
    setRate(context),
    listLimits(context),
    getLimit(context),
    setLimit(context),
  ]
}

function listTypes({ queue }: ServerContext): Route {
  return {
    method: 'GET',
    url: '/api/v1/types',
    scope: 'read',
    summary: 'List the types with their figures, limits and rates',
    answers: { 200: listOf('types', ref('TaskType'), 'TaskTypeList') },
    handler: async () => {
      const types = (await queue.types()).map(typeJson)
      return { types, count: types.length }
    },
  }
}

function setType(context: ServerContext): Route {
  const { queue } = context
  return {
    method: 'POST',
    url: '/api/v1/types/:type',
    scope: 'admin',
    summary: 'Declare a type without a worker; set its ceilings and its retention',
    params: TypeParams,
    body: TypeInputSchema,
    answers: { 200: TYPE },
    refusals: ['unknown_type', 'invalid_duration', 'too_many_types'],
    handler: async (request) => {
      const { type } = request.params as { type: string }
      const { declared = true, ceilings, retention } = request.body as TypeInput
      refuseSecret(type)
      if (declared) await refuseManyDeclared(queue, type)
      const to: TypeChange = { declared }
      if (ceilings !== undefined) to.ceilings = ceilingsOf(ceilings)
      if (retention !== undefined) to.retention = retentionOf(retention)
      return typeJson(await changeType(context, request, type, to))
    },
  }
}

function pauseType(context: ServerContext): Route {
  return {
    method: 'POST',
    url: '/api/v1/types/:type/pause',
    scope: 'admin',
    summary: 'Pause a type: accept tasks, start none',
    params: TypeParams,
    answers: { 200: TYPE },
    refusals: ['not_found'],
    handler: setPaused(context, true),
  }
}

function resumeType(context: ServerContext): Route {
  return {
    method: 'POST',
    url: '/api/v1/types/:type/resume',
    scope: 'admin',
    summary: 'Resume a type: end its pause and its hold',
    params: TypeParams,
    answers: { 200: TYPE },
    refusals: ['not_found'],
    handler: setPaused(context, false),
  }
}

function setRate(context: ServerContext): Route {
  return {
    method: 'POST',
    url: '/api/v1/types/:type/rate',
    scope: 'admin',
    summary: 'Set a rate: at most `max` starts in any window of `per`, over all processes; max null removes it',
    params: TypeParams,
    body: Type.Object(
      {
        max: { type: ['integer', 'null'], minimum: 1, maximum: RATE_LIMITS.max },
        per: Type.Optional(durationOf({ title: 'RateWindow', least: 1, most: RATE_LIMITS.perMs })),
      },
      {
        additionalProperties: false,
        anyOf: [{ required: ['per'] }, { properties: { max: { type: 'null' } } }],
        not: { required: ['per'], properties: { max: { type: 'null' } } },
      },
    ),
    answers: { 200: TYPE },
    refusals: ['unknown_type'],
    handler: async (request) => {
      const { type } = request.params as { type: string }
      return typeJson(await changeType(context, request, type, { rate: rateOf(request.body as RateInput) }))
    },
  }
}

function listLimits({ queue }: ServerContext): Route {
  return {
    method: 'GET',
    url: '/api/v1/concurrency',
    scope: 'read',
    summary: 'List all limits with their use',
    answers: { 200: Limits },
    handler: async () => {
      const limited = (await queue.types()).filter(({ maxConcurrency }) => maxConcurrency !== null)
      return {
        limits: Object.fromEntries(limited.map(({ type, maxConcurrency }) => [type, maxConcurrency])),
        in_use: Object.fromEntries(limited.map(({ type, processing }) => [type, processing])),
        count: limited.length,
      }
    },
  }
}

function getLimit({ queue }: ServerContext): Route {
  return {
    method: 'GET',
    url: '/api/v1/concurrency/:type',
    scope: 'read',
    summary: "Get a type's limit and the holders of its permits",
    params: TypeParams,
    answers: { 200: Limit },
    refusals: ['not_found'],
    handler: async (request) => {
      const info = await oneType(queue, typeIn(request))
      return {
        task_type: info.type,
        max_concurrency: info.maxConcurrency,
        group_concurrency: info.groupConcurrency,
        group_turns: info.groupTurns,
        rate: rateJson(info.rate),
        in_use: info.processing,
        waiting: info.pending,
        paused: info.paused,
        held_until: isoTime(info.heldUntil),
        holders: info.holders.map(holderJson),
      }
    },
  }
}

function setLimit(context: ServerContext): Route {
  return {
    method: 'POST',
    url: '/api/v1/concurrency',
    scope: 'admin',
    summary:
      'Set the limits of a type and of each of its groups, and their turns, over all processes; null removes a limit',
    body: Type.Object(
      {
        task_type: Type.String({ minLength: 1 }),
        max_concurrency: Type.Optional(MaxSchema),
        group_concurrency: Type.Optional(MaxSchema),
        group_turns: Type.Optional(GroupTurnsSchema),
      },
      {
        additionalProperties: false,
        anyOf: [{ required: ['max_concurrency'] }, { required: ['group_concurrency'] }, { required: ['group_turns'] }],
      },
    ),
    answers: { 200: LimitSet },
    refusals: ['unknown_type'],
    handler: async (request) => {
      const { task_type, max_concurrency, group_concurrency, group_turns } = request.body as LimitInput
      const { maxConcurrency } = await changeType(context, request, task_type, {
        ...(max_concurrency === undefined ? {} : { maxConcurrency: max_concurrency }),
        ...(group_concurrency === undefined ? {} : { groupConcurrency: group_concurrency }),
        ...(group_turns === undefined ? {} : { groupTurns: group_turns }),
      })
      const groups = {
        ...(group_concurrency !== undefined && { group_concurrency }),
        ...(group_turns !== undefined && { group_turns }),
      }
      return { task_type, max_concurrency: maxConcurrency, ...groups }
    },
  }
}

function typeIn(request: FastifyRequest): string {
  return (request.params as { type: string }).type
}

/** A type with its holders. @throws XQueueError `not_found` */
export async function oneType(queue: ServerContext['queue'], type: string): Promise<TypeInfo> {
  const [info] = await queue.types({ names: [type], holders: true })
  if (!info) throw noType(type)
  return info
}

/** Changes a type; the audit log gets the changed values, before and after. */
export async function changeType(
  { queue, types }: ServerContext,
  request: FastifyRequest,
  type: string,
  to: TypeChange,
): Promise<TypeInfo> {
  const [before] = await queue.types({ names: [type] })
  const after = await queue.configureType(type, to)
  types.forget(type)
  const names = Object.keys(to).map((name) => (name === 'holdMs' ? 'heldUntil' : name)) as (keyof TypeInfo)[]
  const valuesOf = (info: TypeInfo | undefined) =>
    Object.fromEntries(names.map((name) => [CHANGED[name] ?? name, toldOf(info, name)]))
  request.audited = { from: valuesOf(before), to: valuesOf(after) }
  return after
}

function setPaused(context: ServerContext, paused: boolean) {
  return async (request: FastifyRequest) => {
    const { type } = await oneType(context.queue, typeIn(request))
    return typeJson(await changeType(context, request, type, paused ? { paused } : { paused, holdMs: 0 }))
  }
}

/** @throws XQueueError `too_many_types` */
async function refuseManyDeclared(queue: ServerContext['queue'], type: string): Promise<void> {
  if ((await queue.types({ names: [type] })).length > 0) return
  const { length } = await queue.types()
  if (length < DECLARED_MAX) return
  const remedy = 'remove unneeded declarations (`xqueue declare TYPE --undo`)'
  throw new XQueueError('too_many_types', `there are ${length} task types, the maximum is ${DECLARED_MAX}: ${remedy}`)
}

export function noType(type: string): XQueueError {
  return new XQueueError('not_found', `task type ${JSON.stringify(type)} not found: see /api/v1/types`)
}

/** The value of a type's field for the audit log. */
function toldOf(info: TypeInfo | undefined, name: keyof TypeInfo): unknown {
  if (name === 'heldUntil') return info?.heldUntil == null ? null : isoTime(info.heldUntil)
  if (name === 'ceilings') return info && ceilingsJson(info.ceilings)
  if (name === 'retention') return info && retentionJson(info.retention)
  return info?.[name] ?? null
}

/** @throws XQueueError `invalid_request` */
export function rateOf({ max, per }: RateInput, path = 'per'): Rate | null {
  if (max === null || per === undefined) return null
  let perMs: number
  try {
    perMs = parseDurationMs(per)
  } catch (error) {
    throw invalidField(path, (error as Error).message)
  }
  if (perMs < 1 || perMs > RATE_LIMITS.perMs) throw invalidField(path, 'must be from 1 ms to 24 hours')
  return { max, perMs }
}

/** Names are visible to all callers, so a key pasted by mistake must not become one. */
function refuseSecret(type: string): void {
  if (withoutTokens(type) === type) return
  throw new XQueueError('invalid_request', 'the type looks like a key or token: use the name of a task type')
}
