import { type GroupTurns, type HandlerSettings, type LimitSettings, refuseLimitChange } from '../queue/queue.ts'
import { parseDurationMs } from '../task/duration.ts'
import { invalidField, XQueueError } from '../task/errors.ts'
import { Type } from '../task/json-schema.ts'
import type { Retention } from '../task/retention.ts'
import { completeRetryPolicy, type RetryPolicy } from '../task/retry.ts'
import { FINAL_STATUSES, type FinalStatus } from '../task/status.ts'
import { TASK_LIMITS } from '../task/task.ts'
import { DurationSchema, TypeNameSchema, UsesSchema } from '../task/task-input.ts'
import { type Uses, unitsAboveMax, usesErrors } from '../task/uses.ts'
import { listOf } from './fields.ts'
import { NamedLimits } from './named-limits.ts'
import { NamedTypes } from './named-types.ts'
import type { Route, ServerContext } from './route.ts'
import { GroupTurnsSchema } from './type-json.ts'
import { MaxSchema, type RateInput, RateInputSchema, rateOf } from './types.ts'

/** Handlers of one call. */
const HANDLERS_MAX = 100
/** Named limits of one handler. */
const LIMITS_DECLARED_MAX = 100
const closed = { additionalProperties: false }
const optional = Type.Optional

const HandlerInputSchema = Type.Object(
  {
    type: TypeNameSchema,
    concurrency: optional(MaxSchema),
    group_concurrency: optional(MaxSchema),
    group_turns: optional(GroupTurnsSchema),
    rate: optional(RateInputSchema),
    uses: optional(UsesSchema),
    limits: optional(
      Type.Record(
        Type.Object(
          { max: optional(MaxSchema), rate: optional(RateInputSchema) },
          { ...closed, title: 'DeclaredLimit' },
        ),
        { maxProperties: LIMITS_DECLARED_MAX, description: 'Named limits, which any handler can use' },
      ),
    ),
    max_retry: optional(Type.Integer({ minimum: 0, maximum: TASK_LIMITS.retryMax })),
    queue_timeout: optional(DurationSchema),
    process_timeout: optional(DurationSchema),
    retry: optional(
      Type.Object(
        {
          base: optional(DurationSchema),
          factor: optional(Type.Number({ minimum: 1, maximum: 100 })),
          cap: optional(DurationSchema),
          jitter: optional(Type.Number({ minimum: 0, maximum: 1 })),
        },
        { ...closed, description: 'Back-off; default 1 s doubling up to 5 min, with a random fifth' },
      ),
    ),
    retention: optional(
      Type.Object(Object.fromEntries(FINAL_STATUSES.map((status) => [status, optional(DurationSchema)])), {
        ...closed,
        description: 'How long tasks are kept after they have ended in a status; 0: not at all',
      }),
    ),
  },
  { ...closed, title: 'HandlerInput' },
)

type DurationInput = number | string

interface HandlerInput {
  type: string
  concurrency?: number | null
  group_concurrency?: number | null
  group_turns?: GroupTurns
  rate?: RateInput
  uses?: Uses
  limits?: Record<string, { max?: number | null; rate?: RateInput }>
  max_retry?: number
  queue_timeout?: DurationInput
  process_timeout?: DurationInput
  retry?: { base?: DurationInput; factor?: number; cap?: DurationInput; jitter?: number }
  retention?: { [Status in FinalStatus]?: DurationInput }
}

/** GET /api/v1/handlers, and POST for workers over HTTP. */
export function handlerRoutes(context: ServerContext): Route[] {
  return [listHandlers(context), declareHandlers(context)]
}

function listHandlers({ queue }: ServerContext): Route {
  return {
    method: 'GET',
    url: '/api/v1/handlers',
    scope: 'read',
    summary: 'List the task types that can be submitted',
    answers: { 200: listOf('handlers', Type.String(), 'HandlerList') },
    handler: async () => {
      const handlers = (await queue.types()).map(({ type }) => type)
      return { handlers, count: handlers.length }
    },
  }
}

function declareHandlers({ queue, types }: ServerContext): Route {
  const named = new NamedTypes(queue, types)
  const namedLimits = new NamedLimits(queue)
  return {
    method: 'POST',
    url: '/api/v1/handlers',
    scope: 'work',
    summary:
      'Declare the settings of handlers, as a worker does at its start. They replace those of earlier workers; ' +
      'operators overrule them',
    body: Type.Object({ handlers: Type.Array(HandlerInputSchema, { minItems: 1, maxItems: HANDLERS_MAX }) }, closed),
    answers: { 200: listOf('handlers', Type.String(), 'HandlersDeclared') },
    refusals: ['invalid_duration', 'too_many_types', 'too_many_limits', 'limit_not_placeable'],
    handler: async (request) => {
      const { handlers } = request.body as { handlers: HandlerInput[] }
      // The last one counts for a type that is named twice.
      const settings = new Map(
        handlers.map((handler, index) => [handler.type, settingsOf(handler, `handlers[${index}]`)]),
      )
      const names = [...settings.keys()]
      await named.admit(request.principal!, names)
      const limits = [...settings.values()].flatMap((one) => Object.keys(one.limits ?? {}))
      await namedLimits.admit(request.principal!, limits)
      // A worker on the store tells how its payloads look; one over HTTP does not, and leaves it as it is.
      const infos = new Map((await queue.types({ names })).map((info) => [info.type, info]))
      const declared = [...settings].map(([type, one]): [string, HandlerSettings] => {
        return [type, { ...one, payloadSchema: infos.get(type)?.payloadSchema ?? null }]
      })
      await queue.declareHandlers(new Map(declared))
      for (const type of names) types.forget(type)
      request.audited = { to: handlers }
      return { handlers: names, count: names.length }
    },
  }
}

/** @throws XQueueError `invalid_request` with the path of the field */
function settingsOf(input: HandlerInput, at: string): Omit<HandlerSettings, 'payloadSchema'> {
  const ms = (field: string, value: DurationInput) => {
    try {
      return parseDurationMs(value)
    } catch (error) {
      throw invalidField(`${at}.${field}`, (error as Error).message)
    }
  }
  const { uses = {}, max_retry: maxRetry, queue_timeout: queueTimeout, process_timeout: processTimeout } = input
  const [wrong] = usesErrors(uses, `${at}.uses`)
  if (wrong) throw invalidField(wrong.path, wrong.message)
  const above = unitsAboveMax(uses, input.limits ?? {})
  if (above) {
    const detail = `is ${above.units}, and the limit has ${above.max}: no task could ever start`
    throw invalidField(`${at}.uses.${above.name}`, detail)
  }
  return {
    maxConcurrency: input.concurrency ?? null,
    groupConcurrency: input.group_concurrency ?? null,
    groupTurns: input.group_turns ?? 'tasks',
    rate: input.rate ? rateOf(input.rate, `${at}.rate.per`) : null,
    limits: limitsOf(input.limits ?? {}, `${at}.limits`),
    retry: retryPolicyOf(input.retry ?? {}, at, ms),
    retention: retentionOf(input.retention ?? {}, ms),
    defaults: {
      ...(maxRetry === undefined ? {} : { maxRetry }),
      ...(queueTimeout === undefined ? {} : { queueTimeoutMs: ms('queue_timeout', queueTimeout) }),
      ...(processTimeout === undefined ? {} : { processTimeoutMs: ms('process_timeout', processTimeout) }),
      ...(Object.keys(uses).length === 0 ? {} : { uses }),
    },
  }
}

function limitsOf(input: NonNullable<HandlerInput['limits']>, at: string): Record<string, LimitSettings> {
  return Object.fromEntries(
    Object.entries(input).map(([name, { max = null, rate }]) => {
      const handler = { max, rate: rate ? rateOf(rate, `${at}.${name}.rate.per`) : null }
      try {
        refuseLimitChange(name, { handler })
      } catch (error) {
        throw invalidField(`${at}.${name}`, (error as Error).message)
      }
      return [name, handler]
    }),
  )
}

type Ms = (field: string, value: DurationInput) => number

function retryPolicyOf(input: NonNullable<HandlerInput['retry']>, at: string, ms: Ms): RetryPolicy {
  const { base, cap, ...rest } = input
  try {
    return completeRetryPolicy({
      ...rest,
      ...(base === undefined ? {} : { baseMs: ms('retry.base', base) }),
      ...(cap === undefined ? {} : { capMs: ms('retry.cap', cap) }),
    })
  } catch (error) {
    if (!(error instanceof XQueueError && error.code === 'invalid_handlers')) throw error
    throw invalidField(`${at}.retry`, 'has a base above its cap')
  }
}

function retentionOf(input: NonNullable<HandlerInput['retention']>, ms: Ms): Retention {
  const kept = Object.entries(input).map(([status, value]) => [status, ms(`retention.${status}`, value)])
  return Object.fromEntries(kept)
}
