import { invalidField } from '../task/errors.ts'
import { Type } from '../task/json-schema.ts'
import { TASK_LIMITS } from '../task/task.ts'
import { durationOf, LIMIT_NAME_PATTERN } from '../task/task-input.ts'
import { durationMs } from './claims.ts'
import { described, listOf, nullable, orNull, ref, timeOrNull } from './fields.ts'
import { allLimits, targetOf } from './limit-targets.ts'
import type { Route, ServerContext } from './route.ts'
import { RateSchema } from './type-json.ts'
import { MaxSchema, type RateInput, RateInputSchema, rateOf } from './types.ts'

const NAME_CHARS_MAX = 7 + TASK_LIMITS.typeCharsMax + TASK_LIMITS.groupCharsMax

const LimitParams = Type.Object({
  name: Type.String({
    maxLength: NAME_CHARS_MAX,
    pattern: LIMIT_NAME_PATTERN,
    description:
      'A named limit (`NAME`, `NAME/*` for each key, `NAME/KEY` for one), `type:TYPE`, `group:TYPE/*` for each group ' +
      'of a type, or `group:TYPE/GROUP`, percent-encoded',
  }),
})

const fields = {
  name: Type.String(),
  max: orNull('integer', { description: 'Units held at once: running tasks, or their weights; null: no limit' }),
  rate: nullable(RateSchema, 'At most `max` units start in any `per` seconds; null: no limit'),
  paused: Type.Boolean({ description: 'true: no task that uses it starts until it is resumed' }),
  held_until: timeOrNull('No task that uses it starts before this time; null: not held'),
  in_use: orNull('integer', { description: 'Units in use; null for `…/*`, and in lists for single groups' }),
  waiting: orNull('integer', { description: 'Ready tasks that use it; null for groups and `…/*`' }),
}
export const LimitSchema = Type.Object(fields, { $id: 'Limit' })
const LimitWithHolders = Type.Object(
  {
    ...fields,
    holders: Type.Array(ref('Holder'), {
      description: 'Holders of permits, oldest first, at most 1,000; of a named limit with `type` and `units`',
    }),
    waiters: Type.Array(Type.String(), { description: 'Ids of waiting tasks that use it, at most 100' }),
  },
  { title: 'LimitWithHolders' },
)
const LIMIT = described(ref('Limit'), 'The limit')

/** /api/v1/limits: the limits of types, of their groups, and the named ones. */
export function limitRoutes(context: ServerContext): Route[] {
  return [
    listLimits(context),
    getLimit(context),
    putLimit(context),
    deleteLimit(context),
    holdLimit(context),
    changeLimit(context, 'pause', 'Start no task that uses a limit until it is resumed', { paused: true }),
    changeLimit(context, 'resume', 'End the pause and the hold of a limit', { paused: false, holdMs: 0 }),
  ]
}

function listLimits(context: ServerContext): Route {
  return {
    method: 'GET',
    url: '/api/v1/limits',
    scope: 'read',
    summary: 'List the limits that are set, and the types that are paused or held',
    answers: { 200: listOf('limits', ref('Limit'), 'LimitList') },
    handler: async () => {
      const limits = await allLimits(context.queue)
      return { limits, count: limits.length }
    },
  }
}

function getLimit(context: ServerContext): Route {
  return {
    method: 'GET',
    url: '/api/v1/limits/:name',
    scope: 'read',
    summary: 'Get a limit, the holders of its permits, and the tasks that wait',
    params: LimitParams,
    answers: { 200: LimitWithHolders },
    refusals: ['not_found'],
    handler: (request) => targetOf(context, request).show(),
  }
}

function putLimit(context: ServerContext): Route {
  return {
    method: 'PUT',
    url: '/api/v1/limits/:name',
    scope: 'admin',
    summary: 'Create a named limit, or set the given fields of a limit; null removes one. Operators overrule handlers',
    params: LimitParams,
    body: Type.Object(
      { max: Type.Optional(MaxSchema), rate: Type.Optional(nullable(RateInputSchema, 'Null removes the rate')) },
      { additionalProperties: false, minProperties: 1 },
    ),
    answers: { 200: LIMIT },
    refusals: ['not_found', 'too_many_limits', 'limit_not_placeable'],
    handler: (request) => {
      const { max, rate } = request.body as { max?: number | null; rate?: RateInput | null }
      return targetOf(context, request).change({
        ...(max !== undefined && { max }),
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
    summary: 'Remove a named limit, or the maximum and the rate of a type, also those that its handler declares',
    params: LimitParams,
    answers: { 200: LIMIT },
    refusals: ['not_found', 'limit_in_use'],
    handler: (request) => targetOf(context, request).remove(),
  }
}

function holdLimit(context: ServerContext): Route {
  return {
    method: 'POST',
    url: '/api/v1/limits/:name/hold',
    scope: 'admin',
    summary: 'Start no task that uses a limit until a time has passed; 0 ends the hold',
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
      return targetOf(context, request).change({ holdMs: ms })
    },
  }
}

function changeLimit(
  context: ServerContext,
  verb: 'pause' | 'resume',
  summary: string,
  change: { paused: boolean; holdMs?: number },
): Route {
  return {
    method: 'POST',
    url: `/api/v1/limits/:name/${verb}`,
    scope: 'admin',
    summary,
    params: LimitParams,
    answers: { 200: LIMIT },
    refusals: ['not_found'],
    handler: (request) => targetOf(context, request).change(change),
  }
}
