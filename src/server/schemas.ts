import { Type } from 'typebox'
import { STATUSES } from '../task/status.ts'
import { TASK_LIMITS } from '../task/task.ts'

/** The shapes that requests are validated with and OpenAPI is written from. */

const open = { additionalProperties: true }
const closed = { additionalProperties: false }

export const StatusSchema = Type.Union(STATUSES.map((status) => Type.Literal(status)))

export const DurationSchema = Type.Unsafe<number | string>({
  oneOf: [
    { type: 'number', minimum: 0 },
    { type: 'string', maxLength: 64 },
  ],
  description: 'Seconds, or a string with units: "90s", "1h30m"',
})

export const TaskInputSchema = Type.Object(
  {
    type: Type.String({ minLength: 1, maxLength: TASK_LIMITS.typeCharsMax, description: 'A registered task type' }),
    payload: Type.Unsafe<unknown>({ description: 'Any JSON; default {}' }),
    priority: Type.Integer({ minimum: 0, maximum: TASK_LIMITS.priorityMax, description: 'Higher runs first' }),
    max_retry: Type.Integer({ minimum: 0, maximum: TASK_LIMITS.retryMax }),
    queue_timeout: DurationSchema,
    process_timeout: DurationSchema,
    delay: DurationSchema,
    run_at: Type.String({ maxLength: 40, description: 'RFC 3339; instead of delay' }),
    tags: Type.Record(
      Type.String({ minLength: 1, maxLength: TASK_LIMITS.tagKeyCharsMax }),
      Type.String({ maxLength: TASK_LIMITS.tagValueCharsMax }),
      { maxProperties: TASK_LIMITS.tagsMax },
    ),
    idempotency_key: Type.String({ minLength: 1, maxLength: TASK_LIMITS.idempotencyKeyCharsMax }),
    group: Type.String({
      minLength: 1,
      maxLength: TASK_LIMITS.groupCharsMax,
      description: 'Tenant, account or customer: the groups of a type take turns, and may have a limit of their own',
    }),
  },
  { ...closed, required: ['type'], examples: [{ type: 'example', payload: { duration: 2 } }] },
)

export interface TaskInput {
  type: string
  payload?: unknown
  priority?: number
  max_retry?: number
  queue_timeout?: number | string
  process_timeout?: number | string
  delay?: number | string
  run_at?: string
  tags?: Record<string, string>
  idempotency_key?: string
  group?: string
}

export const FilterSchema = Type.Object(
  {
    status: Type.Optional(StatusSchema),
    type: Type.Optional(Type.String({ maxLength: TASK_LIMITS.typeCharsMax })),
    tag: Type.Optional(Type.String({ maxLength: 400, description: 'key:value' })),
    group: Type.Optional(Type.String({ minLength: 1, maxLength: TASK_LIMITS.groupCharsMax })),
  },
  closed,
)

export const ListSchema = Type.Object(
  {
    ...FilterSchema.properties,
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 1_000, default: 50 })),
    cursor: Type.Optional(Type.String({ maxLength: 200, description: 'next_cursor of the page before' })),
  },
  closed,
)

const time = (description: string) => Type.Unsafe<string | null>({ type: ['string', 'null'], description })

/** What answers look like, for the documentation; answers themselves are not filtered by it. */
export const TaskSchema = Type.Object(
  {
    id: Type.String({ description: 'UUIDv7: sorts by time of submission' }),
    type: Type.String(),
    status: StatusSchema,
    attempts: Type.Integer({ description: 'Handler runs that ended by themselves or by their time-out' }),
    deliveries: Type.Integer({ description: 'Times it was handed to a worker' }),
    group: Type.Unsafe<string | null>({
      type: ['string', 'null'],
      description: 'Whose turns it takes within its type',
    }),
    run_at: time('When it may start'),
    completed_at: time('When it ended'),
  },
  { ...open, $id: 'Task' },
)

export const ProblemSchema = Type.Object(
  {
    type: Type.String(),
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.String(),
    errors: Type.Optional(Type.Array(Type.Object({ path: Type.String(), message: Type.String() }))),
  },
  { ...open, $id: 'Problem' },
)

export const IdParams = Type.Object({ id: Type.String({ maxLength: 100 }) })
export const TypeParams = Type.Object({ type: Type.String({ maxLength: TASK_LIMITS.typeCharsMax }) })
