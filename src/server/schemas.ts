import { Type } from 'typebox'
import { STATUSES } from '../task/status.ts'
import { BatchSchema, GroupSchema, TAG_FILTER_PATTERN, TypeNameSchema } from '../task/task-input.ts'

/** Schemas that validate requests and generate OpenAPI. */

/** Our own format, parsed by the engine that created it. */
export const CURSOR_FORMAT = 'cursor'
/** Skipped tasks are read, so larger offsets must use `cursor`. */
const OFFSET_MAX = 10_000
const TAG_FILTER = 'key:value; write a colon in the key as \\:'
const closed = { additionalProperties: false }

/** Titles become names of schemas in the document. */
export const StatusSchema = Type.Enum([...STATUSES], { title: 'Status' })

export const FilterSchema = Type.Object(
  {
    status: Type.Optional(StatusSchema),
    type: Type.Optional(TypeNameSchema),
    tag: Type.Optional(Type.String({ maxLength: 400, pattern: TAG_FILTER_PATTERN, description: TAG_FILTER })),
    group: Type.Optional(GroupSchema),
    batch: Type.Optional(BatchSchema),
  },
  closed,
)

export const BulkSchema = Type.Object(
  {
    ...FilterSchema.properties,
    dry_run: Type.Optional(Type.Boolean({ description: 'true: count the matching tasks without changing them' })),
  },
  { ...closed, title: 'TaskFilter' },
)

export const ListSchema = Type.Object(
  {
    ...FilterSchema.properties,
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 1_000, default: 50 })),
    offset: Type.Optional(
      Type.Integer({ minimum: 0, maximum: OFFSET_MAX, description: 'Number of tasks to skip; prefer `cursor`' }),
    ),
    cursor: Type.Optional(
      Type.String({ maxLength: 200, format: CURSOR_FORMAT, description: 'next_cursor of the previous page' }),
    ),
  },
  closed,
)

export const IdParams = Type.Object({ id: Type.String({ maxLength: 100 }) })
export const TypeParams = Type.Object({ type: TypeNameSchema })
