import { Type } from 'typebox'
import { STATUSES } from '../task/status.ts'
import { TASK_LIMITS } from '../task/task.ts'

/** The shapes that requests are validated with and OpenAPI is written from. */

const open = { additionalProperties: true }
const closed = { additionalProperties: false }

export const StatusSchema = Type.Union(STATUSES.map((status) => Type.Literal(status)))

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
