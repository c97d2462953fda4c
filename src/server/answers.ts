import { type TSchema, Type } from 'typebox'
import { SCOPES } from '../task/api-key.ts'
import { ON_FAILURE } from '../task/flow.ts'
import { CATCH_UPS, OVERLAPS } from '../task/schedule.ts'
import { FINAL_STATUSES, STATUSES, TIMEOUT_REASONS } from '../task/status.ts'
import { Problem } from './refusals.ts'
import { StatusSchema } from './schemas.ts'

/**
 * The schemas of answers, for the documentation. They do not filter answers. A fuzzer compares every answer with them.
 */

type OfStatus = Readonly<Record<number, TSchema>>

const orNull = (type: 'string' | 'integer' | 'number', more = {}) => Type.Unsafe({ type: [type, 'null'], ...more })
const time = (description: string) => Type.String({ format: 'date-time', description })
const timeOrNull = (description: string) => orNull('string', { format: 'date-time', description })
const count = (description: string) => Type.Integer({ minimum: 0, description })
const json = (description: string) => Type.Unsafe<unknown>({ description })
const seconds = (description: string) => Type.Number({ minimum: 0, description: `${description}, in seconds` })
const nullable = (schema: object, description: string) =>
  Type.Unsafe({ oneOf: [schema, { type: 'null' }], description })
/** Schemas that the document names by their titles: see digestible.ts. */
const titled = (title: string, schema: TSchema) => ({ ...schema, title }) as TSchema
const listOf = (name: string, items: TSchema, title: string) =>
  Type.Object({ [name]: Type.Array(items), count: Type.Integer() }, { title })
const ref = (name: string) => Type.Unsafe({ $ref: `${name}#` })

const Task = Type.Object(
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
    timeout_reason: Type.Unsafe({ enum: [...TIMEOUT_REASONS, null], description: 'The time-out that ended the task' }),
    created_at: time('Time of acceptance'),
    run_at: time('Earliest start'),
    started_at: timeOrNull('Start of the latest attempt'),
    updated_at: time('Time of the latest change'),
    completed_at: timeOrNull('Time of the end'),
    worker_id: orNull('string', { description: 'Worker of the current or latest run' }),
    progress: Type.Unsafe({
      oneOf: [{ type: 'number' }, { type: 'object' }, { type: 'null' }],
      description: 'Latest progress: 0–100 or an object',
    }),
    result: json('Any JSON; null before the task has succeeded'),
    error: orNull('string', { description: 'Error of the latest failed attempt' }),
    tags: Type.Record(Type.String(), Type.String()),
    idempotency_key: orNull('string'),
    group: orNull('string', { description: 'Group within the type' }),
    after: Type.Array(Type.String(), { description: 'The tasks that it waits for or waited for' }),
    on_failure: Type.Unsafe({ enum: ON_FAILURE }),
    batch: orNull('string', { description: 'Batch of the task' }),
  },
  { $id: 'Task' },
)

const Rate = Type.Object({ max: Type.Integer(), per: seconds('The window') }, { title: 'Rate' })

const Percentiles = Type.Object(
  { p50: seconds('Half'), p95: seconds('19 of 20'), p99: seconds('99 of 100') },
  { title: 'Percentiles' },
)

const Ceilings = Type.Object(
  {
    max_retry: orNull('integer'),
    priority: orNull('integer'),
    queue_timeout: orNull('number', { description: 'Seconds' }),
    process_timeout: orNull('number', { description: 'Seconds' }),
    payload_bytes: orNull('integer'),
  },
  { title: 'Ceilings', description: 'Maximum values of a submission, set by operators; null: not set' },
)

const Retention = Type.Object(
  Object.fromEntries(FINAL_STATUSES.map((status) => [status, orNull('number', { description: 'Seconds' })])),
  {
    title: 'Retention',
    description: "How long tasks are kept after they have ended, by their status; null: the server's retention-age",
  },
)

const TaskType = Type.Object(
  {
    type: Type.String({ description: 'Name of the type' }),
    pending: count('Waiting tasks, including delayed and dependent ones'),
    delayed: count('Tasks with a start time in the future'),
    dependent: count('Tasks that wait for other tasks'),
    processing: count('Running tasks'),
    max_concurrency: orNull('integer', { description: 'Maximum number of running tasks; null: no limit' }),
    group_concurrency: orNull('integer', { description: 'The same for each group' }),
    rate: nullable(Rate, 'At most `max` starts in any `per` seconds; null: no limit'),
    paused: Type.Boolean({ description: 'true: accepts tasks but starts none' }),
    declared: Type.Boolean({ description: 'true: known without a worker' }),
    workers: count('Live workers that run it'),
    throughput: Type.Number({ description: 'Ended tasks per second, over the last minute' }),
    wait: nullable(Percentiles, 'Seconds from `run_at` to the start: `p50`, `p95`, `p99`; null: no recent tasks'),
    run: nullable(Percentiles, 'Seconds from the start to the end: `p50`, `p95`, `p99`'),
    payload_schema: json('JSON Schema of the payload, if the handler has one'),
    ceilings: Ceilings,
    retention: Retention,
  },
  { $id: 'TaskType' },
)

const Holder = Type.Object(
  {
    task_id: Type.String(),
    worker_id: Type.String(),
    since: time('Time at which the task took the permit'),
    lease_expires_at: time('Expiry of the permit unless it is renewed'),
    group: orNull('string'),
  },
  { $id: 'Holder' },
)

const upcoming = Type.Array(time('A tick'), { description: 'The next five ticks' })
const Schedule = Type.Object(
  {
    id: Type.String(),
    type: Type.String(),
    payload: json('Any JSON'),
    priority: Type.Integer(),
    group: orNull('string'),
    tags: Type.Record(Type.String(), Type.String()),
    max_retry: Type.Integer(),
    queue_timeout: seconds('Maximum wait of each task for its first start; 0 = no limit'),
    process_timeout: seconds('Maximum duration of an attempt; 0 = no limit'),
    cron: orNull('string'),
    timezone: orNull('string'),
    every: orNull('number', { description: 'In seconds' }),
    catch_up: Type.Unsafe({ enum: CATCH_UPS }),
    overlap: Type.Unsafe({ enum: OVERLAPS }),
    paused: Type.Boolean(),
    next_at: timeOrNull('The next tick'),
    last_at: timeOrNull('Time of the latest task'),
    last_task_id: orNull('string'),
    created_at: time('Time of creation'),
    updated_at: time('Time of the latest change'),
    upcoming,
  },
  { $id: 'Schedule' },
)

/** Schemas with a name in the documentation. */
export const SHARED = [Task, TaskType, Holder, Schedule, Problem]

const StreamInfo = titled(
  'StreamInfo',
  Type.Object({
    length: count('Unfinished tasks'),
    groups: count('Number of readers'),
    consumers: Type.Array(Type.Object({ name: Type.String(), pending: Type.Integer(), idle: Type.Number() })),
    streams: Type.Array(Type.Object({ name: Type.String(), length: Type.Integer() })),
  }),
)

const Stats = titled(
  'Stats',
  Type.Object({
    ...Object.fromEntries(
      STATUSES.map((status) => [`${status}_tasks`, count(`Stored tasks with the status ${status}`)]),
    ),
    delayed_tasks: count('Pending tasks with a start time in the future'),
    dependent_tasks: count('Pending tasks that wait for other tasks'),
    ready_tasks: count('Pending tasks that more workers could start'),
    total_workers: count('Live workers over all processes'),
    active_workers: count('Workers with running tasks'),
    processed_tasks: count('Stored tasks that have ended'),
    failed_tasks_count: count('The same as `failed_tasks`'),
    stream_info: Type.Object(
      { length: count('Unfinished tasks'), groups: count('Number of readers') },
      { description: 'Unfinished tasks (`length`) in the engine; see GET /api/v1/stream' },
    ),
    concurrency_limits: Type.Record(Type.String(), Type.Integer(), { description: 'Limits by type' }),
    throughput: Type.Number({ description: 'Ended tasks per second, over the last minute' }),
    instance_id: Type.String({ description: 'The process that answers' }),
    is_running: Type.Boolean({ description: 'Always true' }),
    uptime: seconds('Time since the start of this process'),
  }),
)

const Health = titled(
  'Health',
  Type.Object({
    status: Type.Unsafe({ enum: ['healthy', 'degraded', 'unhealthy'] }),
    timestamp: time('Time of the answer'),
    version: Type.Optional(Type.String()),
    engine: Type.Optional(Type.String()),
    durability: Type.Optional(Type.String({ description: 'Failures that an accepted task survives' })),
    uptime: Type.Optional(seconds('Time since the start of this process')),
    checks: Type.Optional(Type.Array(Type.Object({ name: Type.String(), ok: Type.Boolean(), detail: Type.String() }))),
    failed_check: Type.Optional(Type.String()),
  }),
)

const Workers = titled(
  'WorkerList',
  Type.Object({
    total_workers: Type.Integer(),
    active_workers: Type.Integer(),
    processed_tasks: Type.Integer(),
    failed_tasks: Type.Integer(),
    uptime: seconds('Time since the start of this process'),
    workers: Type.Array(
      Type.Object({
        id: Type.String(),
        host: Type.String(),
        pid: Type.Integer(),
        types: Type.Array(Type.String()),
        concurrency: Type.Integer(),
        running: Type.Integer(),
        started_at: time('Time of the start'),
        last_seen: time('Time of the latest call'),
      }),
    ),
  }),
)

const REASONS = [
  ...['ready', 'delayed', 'limit_reached', 'group_limit_reached', 'rate_limited', 'paused', 'no_worker'],
  ...['behind', 'running', 'finished', 'waits_for_tasks'],
]

const Explanation = titled(
  'Explanation',
  Type.Object({
    id: Type.String(),
    type: Type.String(),
    group: orNull('string'),
    status: StatusSchema,
    reason: Type.Unsafe({ enum: REASONS }),
    max_concurrency: orNull('integer'),
    holders: Type.Array(ref('Holder')),
    ahead: count('Number of tasks that run before it'),
    waits_for: Type.Array(Type.String(), { description: 'The tasks that it still waits for' }),
    until: timeOrNull('Time of the next possible change'),
  }),
)

const Predecessor = titled(
  'Predecessor',
  Type.Object({
    id: Type.String(),
    type: Type.String(),
    status: nullable(StatusSchema, 'Final status; null: no longer known'),
    result: json('Any JSON'),
    error: orNull('string'),
    omitted: Type.Optional(
      Type.Boolean({
        description:
          'Result and error are null because all together have more than 1 MiB: ' +
          'read them with GET /api/v1/leases/{lease}/predecessors/{id}',
      }),
    ),
  }),
)

const Batch = titled(
  'Batch',
  Type.Object({
    batch: Type.String(),
    total: count('Tasks ever accepted in the batch'),
    ...Object.fromEntries(STATUSES.map((status) => [status, count(`Tasks with the status ${status}`)])),
    removed: count('Ended tasks that have been deleted'),
    progress: Type.Number({ minimum: 0, maximum: 100, description: 'Percentage of ended tasks' }),
    done: Type.Boolean({ description: 'true: all tasks have ended' }),
  }),
)

const Key = titled(
  'ApiKey',
  Type.Object({
    id: Type.String(),
    kind: Type.Enum(['key', 'session'], { title: 'ApiKeyKind' }),
    opened_with: orNull('string', { description: 'Session: id of its key; null for a token of an issuer' }),
    name: Type.String(),
    scopes: Type.Array(Type.Enum([...SCOPES], { title: 'Scope' })),
    rate: nullable(Rate, 'Maximum rate of calls; null: no limit'),
    created_at: time('Time of creation'),
    expires_at: timeOrNull('Time of expiry'),
    tokens_valid_from: timeOrNull('Subscription tokens created before this time are revoked'),
  }),
)

const Session = titled(
  'Session',
  Type.Object({
    access_control: Type.Boolean(),
    name: orNull('string'),
    scopes: Type.Array(Type.Enum([...SCOPES], { title: 'Scope' })),
    expires_at: timeOrNull('Time of expiry'),
    login_url: Type.Optional(
      orNull('string', { description: 'URL for the login with the identity provider, if one is configured' }),
    ),
  }),
)

const described = (schema: TSchema, description: string) => ({ ...schema, description }) as TSchema
const ofText = (type: string, description: string): TSchema =>
  ({ description, content: { [type]: { schema: { type: 'string' } } } }) as unknown as TSchema

const settled = Type.Object({ status: StatusSchema }, { title: 'Settled' })
const changed = Type.Object({ count: count('Number of changed tasks') }, { title: 'Changed' })
const counted = Type.Object(
  {
    count: count('Number of matching tasks, at most 100,000'),
    more: Type.Boolean({ description: 'true: there are more matching tasks' }),
  },
  { title: 'Counted', description: 'A dry run: no task was changed' },
)

const task = described(ref('Task'), 'The task')
const schedule = described(ref('Schedule'), 'The schedule')

/** The answers of each call. */
export const ANSWERS = {
  submitted: { 201: described(task, 'Accepted'), 200: described(task, 'The earlier task of a known idempotency key') },
  batch: {
    201: listOf(
      'tasks',
      Type.Object({ id: Type.String(), status: StatusSchema }, { title: 'SubmittedTask' }),
      'SubmittedTasks',
    ),
  },
  task: { 200: task },
  canceled: {
    200: described(task, 'Canceled'),
    202: described(task, 'The running handler has not stopped yet'),
  },
  purged: { 204: Type.Null({ description: 'Purged' }) },
  tasks: {
    200: Type.Object(
      { tasks: Type.Array(ref('Task')), count: Type.Integer(), next_cursor: orNull('string') },
      { title: 'TaskList' },
    ),
  },
  changed: { 202: changed },
  bulk: { 202: changed, 200: counted },
  explanation: { 200: Explanation },
  batchInfo: { 200: described(Batch, 'Progress of the batch') },
  handlers: { 200: listOf('handlers', Type.String(), 'HandlerList') },
  types: { 200: listOf('types', ref('TaskType'), 'TaskTypeList') },
  type: { 200: described(ref('TaskType'), 'The type') },
  schedules: { 200: listOf('schedules', ref('Schedule'), 'ScheduleList') },
  schedule: { 200: schedule },
  scheduleAdded: { 201: described(schedule, 'Added'), 200: described(schedule, 'An equal schedule exists') },
  scheduleRun: { 201: schedule },
  upcoming: { 200: Type.Object({ upcoming }) },
  limits: {
    200: Type.Object({
      limits: Type.Record(Type.String(), Type.Integer()),
      in_use: Type.Record(Type.String(), Type.Integer()),
      count: Type.Integer(),
    }),
  },
  limit: {
    200: Type.Object({
      task_type: Type.String(),
      max_concurrency: orNull('integer'),
      group_concurrency: orNull('integer'),
      rate: nullable(Rate, 'At most `max` starts in any `per` seconds'),
      in_use: Type.Integer(),
      holders: Type.Array(ref('Holder')),
    }),
  },
  limitSet: {
    200: Type.Object({
      task_type: Type.String(),
      max_concurrency: orNull('integer'),
      group_concurrency: Type.Optional(orNull('integer')),
    }),
  },
  leases: {
    200: Type.Object({
      leases: Type.Array(
        Type.Object({
          lease: Type.String(),
          expires_at: time('Expiry unless the lease is renewed'),
          task: ref('Task'),
          predecessors: Type.Array(Predecessor, { description: 'Results of the tasks in `after`, in that order' }),
        }),
      ),
    }),
  },
  predecessor: { 200: Predecessor },
  settled: { 200: settled },
  renewed: {
    200: Type.Object({ expires_at: time('Expiry unless the lease is renewed'), cancel_requested: Type.Boolean() }),
  },
  events: { 200: ofText('text/event-stream', 'An endless stream') },
  subscription: {
    201: Type.Object({
      url: Type.String(),
      topics: Type.Array(Type.String()),
      username: Type.String(),
      password: Type.String(),
      expires_at: time('Expiry of the token'),
    }),
  },
  session: { 200: Session },
  keys: { 200: listOf('keys', Key, 'ApiKeyList') },
  key: { 200: Key },
  loggedOut: { 204: Type.Null({ description: 'Logged out' }) },
  stats: { 200: Stats },
  health: { 200: Health, 503: described(Health, 'Unhealthy: `failed_check` names the failed check') },
  alive: { 200: Type.Object({ status: Type.String() }) },
  stream: { 200: Type.Object({ stream_info: StreamInfo }) },
  workers: { 200: Workers },
  metrics: { 200: ofText('text/plain', 'Metrics in the Prometheus text format') },
} as const satisfies Record<string, OfStatus>
