import type { FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import type { Holder, TypeChange, TypeInfo } from '../queue/queue.ts'
import { invalidField, XQueueError } from '../task/errors.ts'
import { TASK_LIMITS } from '../task/task.ts'
import { durationOf } from '../task/task-input.ts'
import { isoTime } from '../task/task-json.ts'
import { durationMs } from './claims.ts'
import { described, listOf, nullable, orNull, ref, timeOrNull } from './fields.ts'
import type { Route, ServerContext } from './route.ts'
import { holderJson, RateSchema, rateJson } from './type-json.ts'
import { changeType, MaxSchema, oneType, type RateInput, RateInputSchema, rateOf } from './types.ts'

/** `type:<type>`, `group:<type>/*` for each group of a type, or `group:<type>/<group>` for one of them. */
const NAME = /^(?:type:(?<type>[^/]+)|group:(?<of>[^/]+)\/(?<group>.+))$/s
const NAME_CHARS_MAX = 7 + TASK_LIMITS.typeCharsMax + TASK_LIMITS.groupCharsMax
/** In place of the name of a group: each group of the type. */
const EACH = '*'

const LimitParams = Type.Object({
  name: Type.String({
    maxLength: NAME_CHARS_MAX,
    description: '`type:TYPE`, `group:TYPE/*` for each group of a type, or `group:TYPE/GROUP`, percent-encoded',
  }),
})

const fields = {
  name: Type.String(),
  max: orNull('integer', { description: 'Maximum number of running tasks; null: no limit' }),
  rate: nullable(RateSchema, 'At most `max` starts in any `per` seconds; null: no limit'),
  paused: Type.Boolean({ description: 'true: no task starts until it is resumed' }),
  held_until: timeOrNull('No task starts before this time; null: not held'),
  in_use: orNull('integer', { description: 'Running tasks; null for `group:TYPE/*`' }),
  waiting: orNull('integer', { description: 'Waiting tasks; null for groups' }),
}
export const LimitSchema = Type.Object(fields, { $id: 'Limit' })
const LimitWithHolders = Type.Object(
  { ...fields, holders: Type.Array(ref('Holder'), { description: 'Holders of permits, oldest first, at most 1,000' }) },
  { title: 'LimitWithHolders' },
)
const LIMIT = described(ref('Limit'), 'The limit')

/** /api/v1/limits: the limits of types and of their groups under one name each. */
export function limitRoutes(context: ServerContext): Route[] {
  return [
    listLimits(context),
    getLimit(context),
    putLimit(context),
    deleteLimit(context),
    holdLimit(context),
    pauseLimit(context),
    resumeLimit(context),
  ]
}

function listLimits({ queue }: ServerContext): Route {
  return {
    method: 'GET',
    url: '/api/v1/limits',
    scope: 'read',
    summary: 'List the limits that are set, and the types that are paused or held',
    answers: { 200: listOf('limits', ref('Limit'), 'LimitList') },
    handler: async () => {
      const limits = (await queue.types()).flatMap((info) => [
        ...(isSet(info) ? [ofType(info)] : []),
        ...(info.groupConcurrency === null ? [] : [ofGroups(info, EACH)]),
      ])
      return { limits, count: limits.length }
    },
  }
}

function getLimit({ queue }: ServerContext): Route {
  return {
    method: 'GET',
    url: '/api/v1/limits/:name',
    scope: 'read',
    summary: 'Get a limit and the holders of its permits',
    params: LimitParams,
    answers: { 200: LimitWithHolders },
    refusals: ['not_found'],
    handler: async (request) => {
      const { type, group } = nameOf(request)
      const info = await oneType(queue, type)
      const holders = info.holders.filter((holder) => group === null || group === EACH || holder.group === group)
      return { ...(group === null ? ofType(info) : ofGroups(info, group, holders)), holders: holders.map(holderJson) }
    },
  }
}

function putLimit(context: ServerContext): Route {
  return {
    method: 'PUT',
    url: '/api/v1/limits/:name',
    scope: 'admin',
    summary: 'Set the given fields of a limit, over all processes; null removes one. Operators overrule handlers',
    params: LimitParams,
    body: Type.Object(
      { max: Type.Optional(MaxSchema), rate: Type.Optional(nullable(RateInputSchema, 'Null removes the rate')) },
      { additionalProperties: false, minProperties: 1 },
    ),
    answers: { 200: LIMIT },
    refusals: ['not_found'],
    handler: (request) => {
      const { max, rate } = request.body as { max?: number | null; rate?: RateInput | null }
      if (nameOf(request).group !== null) {
        if (rate !== undefined) throw invalidField('rate', 'is not possible for groups: set it for `type:TYPE`')
        return set(context, request, { groupConcurrency: max! })
      }
      return set(context, request, {
        ...(max !== undefined && { maxConcurrency: max }),
        ...(rate !== undefined && { rate: rate && rateOf(rate, 'rate.per') }),
      })
    },
  }
}

function deleteLimit(context: ServerContext): Route {
  return {
    method: 'DELETE',
    url: '/api/v1/limits/:name',
    scope: 'admin',
    summary: 'Remove the maximum and the rate of a limit, also those that its handler declares',
    params: LimitParams,
    answers: { 200: LIMIT },
    refusals: ['not_found'],
    handler: (request) => {
      const isOfGroups = nameOf(request).group !== null
      return set(context, request, isOfGroups ? { groupConcurrency: null } : { maxConcurrency: null, rate: null })
    },
  }
}

function holdLimit(context: ServerContext): Route {
  return {
    method: 'POST',
    url: '/api/v1/limits/:name/hold',
    scope: 'admin',
    summary: 'Start no task of a type until a time has passed; 0 ends the hold',
    params: LimitParams,
    body: Type.Object(
      { for: durationOf({ title: 'HoldDuration', most: TASK_LIMITS.holdMsMax }) },
      { additionalProperties: false },
    ),
    answers: { 200: LIMIT },
    refusals: ['not_found', 'invalid_duration'],
    handler: (request) => {
      const { for: time } = request.body as { for: number | string }
      const ms = durationMs('for', time)
      if (ms > TASK_LIMITS.holdMsMax) throw invalidField('for', 'must be at most 24 hours')
      return setOfType(context, request, { holdMs: ms })
    },
  }
}

function pauseLimit(context: ServerContext): Route {
  return {
    method: 'POST',
    url: '/api/v1/limits/:name/pause',
    scope: 'admin',
    summary: 'Start no task of a type until it is resumed',
    params: LimitParams,
    answers: { 200: LIMIT },
    refusals: ['not_found'],
    handler: (request) => setOfType(context, request, { paused: true }),
  }
}

function resumeLimit(context: ServerContext): Route {
  return {
    method: 'POST',
    url: '/api/v1/limits/:name/resume',
    scope: 'admin',
    summary: 'End the pause and the hold of a type',
    params: LimitParams,
    answers: { 200: LIMIT },
    refusals: ['not_found'],
    handler: (request) => setOfType(context, request, { paused: false, holdMs: 0 }),
  }
}

/** @throws XQueueError `invalid_request` for a group */
function setOfType(context: ServerContext, request: FastifyRequest, change: TypeChange) {
  if (nameOf(request).group === null) return set(context, request, change)
  throw invalidField('name', 'names a group: only `type:TYPE` can be paused or held')
}

/** @throws XQueueError `invalid_request` for one group, `not_found` */
async function set(context: ServerContext, request: FastifyRequest, change: TypeChange) {
  const { type, group } = nameOf(request)
  if (group !== null && group !== EACH) {
    throw invalidField('name', `is of one group: set the limit of each group with \`group:${type}/*\``)
  }
  await oneType(context.queue, type)
  const info = await changeType(context, request, type, change)
  return group === null ? ofType(info) : ofGroups(info, group)
}

/** @throws XQueueError `not_found` for a name of another form */
function nameOf(request: FastifyRequest): { type: string; group: string | null } {
  const { name } = request.params as { name: string }
  const { type, of, group } = NAME.exec(name)?.groups ?? {}
  if (type !== undefined) return { type, group: null }
  if (of !== undefined) return { type: of, group: group! }
  const remedy = 'use `type:TYPE`, `group:TYPE/*` or `group:TYPE/GROUP`'
  throw new XQueueError('not_found', `there is no limit ${JSON.stringify(name)}: ${remedy}`)
}

function isSet({ maxConcurrency, rate, paused, heldUntil }: TypeInfo): boolean {
  return maxConcurrency !== null || rate !== null || paused || heldUntil !== null
}

function ofType({ type, maxConcurrency, rate, paused, heldUntil, processing, pending }: TypeInfo) {
  return {
    name: `type:${type}`,
    max: maxConcurrency,
    rate: rateJson(rate),
    paused,
    held_until: heldUntil === null ? null : isoTime(heldUntil),
    in_use: processing,
    waiting: pending,
  }
}

function ofGroups({ type, groupConcurrency }: TypeInfo, group: string, holders?: readonly Holder[]) {
  return {
    name: `group:${type}/${group}`,
    max: groupConcurrency,
    rate: null,
    paused: false,
    held_until: null,
    in_use: group === EACH || !holders ? null : holders.length,
    waiting: null,
  }
}
