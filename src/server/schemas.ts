import { ERROR_PATTERN_CHARS_MAX } from '../task/error-pattern.ts'
import { ON_FAILURE } from '../task/flow.ts'
import { Type } from '../task/json-schema.ts'
import { STATUSES, TIMEOUT_REASONS } from '../task/status.ts'
import { BatchSchema, GroupSchema, TAG_FILTER_PATTERN, TypeNameSchema } from '../task/task-input.ts'
import { count, json, orNull, seconds, time, timeOrNull } from './fields.ts'

/** Schemas that several resources use: they validate requests and generate OpenAPI. */

/** Our own format, parsed by the store that created it. */
export const CURSOR_FORMAT = 'cursor'
/** Skipped tasks are read, so larger offsets must use `cursor`. */
const OFFSET_MAX = 10_000
const TAG_FILTER = 'key:value; write a colon in the key as \\:'
/** Characters of the error that are searched for. */
const ERROR_PART_MAX = 200
const ERROR_LIKE = 'An error: only tasks whose error has the same first line, apart from numbers (`#`) and ids (`…`)'
const closed = { additionalProperties: false }

const timeFilter = (description: string) =>
  Type.Optional(Type.String({ maxLength: 40, format: 'date-time', description }))

/** Titles become names of schemas in the document. */
export const StatusSchema = Type.Enum([...STATUSES], { title: 'Status' })

export const FilterSchema = Type.Object(
  {
    status: Type.Optional(StatusSchema),
    type: Type.Optional(TypeNameSchema),
    tag: Type.Optional(Type.String({ maxLength: 400, pattern: TAG_FILTER_PATTERN, description: TAG_FILTER })),
    group: Type.Optional(GroupSchema),
    batch: Type.Optional(BatchSchema),
    created_after: timeFilter('Only tasks that were accepted at this time or later'),
    created_before: timeFilter('Only tasks that were accepted before this time'),
    error: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: ERROR_PART_MAX,
        description: 'A part of the error that the task shows; A to Z are equal to a to z',
      }),
    ),
    error_like: Type.Optional(
      Type.String({ minLength: 1, maxLength: ERROR_PATTERN_CHARS_MAX, description: ERROR_LIKE }),
    ),
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
      Type.String({
        format: CURSOR_FORMAT,
        description: 'next_cursor of the previous page',
      }),
    ),
  },
  closed,
)

export const IdParams = Type.Object({ id: Type.String({ maxLength: 100 }) })
export const TypeParams = Type.Object({ type: TypeNameSchema })

/** A task in answers. */
export const TaskSchema = Type.Object(
  {
    id: Type.String({ description: 'UUIDv7, which sorts by the time of submission' }),
    type: Type.String(),
    payload: json('Any JSON'),
    priority: Type.Integer({ minimum: 0, maximum: 9 }),
    status: StatusSchema,
    attempts: count('Handler runs that ended by themselves or by the time-out'),
    deliveries: count('Number of hand-outs to workers'),
    max_retry: count('Retries after the first attempt'),
    queue_timeout: seconds('Maximum wait for the first start; 0 = no limit'),
    process_timeout: seconds('Maximum duration of an attempt; 0 = no limit'),
    timeout_reason: { enum: [...TIMEOUT_REASONS, null], description: 'The time-out that ended the task' },
    created_at: time('Time of acceptance'),
    run_at: time('Earliest start'),
    started_at: timeOrNull('Start of the latest attempt'),
    updated_at: time('Time of the latest change'),
    completed_at: timeOrNull('Time of the end'),
    worker_id: orNull('string', { description: 'Worker of the current or latest run' }),
    progress: {
      oneOf: [{ type: 'number' }, { type: 'object' }, { type: 'null' }],
      description: 'Latest progress: 0–100 or an object',
    },
    result: json('Any JSON; null before the task has succeeded'),
    error: orNull('string', { description: 'Error of the latest failed attempt' }),
    tags: Type.Record(Type.String()),
    idempotency_key: orNull('string'),
    group: orNull('string', { description: 'Group within the type' }),
    uses: Type.Record(Type.Integer(), {
      description: 'Units of named limits that it uses while it runs',
    }),
    after: Type.Array(Type.String(), { description: 'The tasks that it waits for or waited for' }),
    on_failure: { enum: ON_FAILURE },
    batch: orNull('string', { description: 'Batch of the task' }),
  },
  { $id: 'Task' },
)
