import { setImmediate as immediate } from 'node:timers/promises'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { ListQuery, Queue, Submitted } from '../queue/queue.ts'
import { type ErrorCode, type FieldError, invalidField, XQueueError } from '../task/errors.ts'
import { Type } from '../task/json-schema.ts'
import { NO_TIME, parseTime } from '../task/rfc3339.ts'
import { RETRYABLE_STATUSES } from '../task/status.ts'
import { TASK_LIMITS, type Task, type TaskSpec } from '../task/task.ts'
import {
  refuseManyEdges,
  refuseTaskLimits,
  specOf,
  type TaskInput,
  TaskInputSchema,
  throwErrors,
} from '../task/task-input.ts'
import { taskJson, taskText } from '../task/task-json.ts'
import type { TraceContext } from '../task/trace-context.ts'
import { sending } from '../trace/spans.ts'
import { ChangedSchema, CountedSchema, changeAll, countAll, pageOf, purgeAll, type Wanted } from './bulk.ts'
import { described, listOf, orNull, ref } from './fields.ts'
import { JSON_TYPE } from './headers.ts'
import { prefers } from './prefer.ts'
import type { Route, ServerContext } from './route.ts'
import { BulkSchema, IdParams, ListSchema, StatusSchema } from './schemas.ts'
import { Slots } from './slots.ts'

const SUBMISSION_REFUSALS: readonly ErrorCode[] = [
  ...(['unknown_type', 'unknown_limit', 'type_owns_limits', 'invalid_payload', 'invalid_duration'] as const),
  'limit_not_placeable',
  ...(['idempotency_conflict', 'queue_full', 'unknown_predecessor', 'too_many_successors'] as const),
]

const CHECKED_AT_ONCE = 500
const PAGE_MAX = 1_000
/** Lists that are read at the same time. A store that reads more of them answers nothing else meanwhile. */
const LISTS_MAX = 4
const LIST_WAIT_MS = 10_000
const EMPTY_LIST = '{"tasks":[],"count":0,"next_cursor":null}'
/** Tasks in full in the answer to a batch. */
const WHOLE_BYTES_MAX = 8 * 1024 * 1024

const TASK = described(ref('Task'), 'The task')

const SubmittedTask = Type.Object(
  { id: Type.String(), status: StatusSchema },
  { title: 'SubmittedTask', description: 'With `Prefer: return=representation` the fields of a Task' },
)

const TaskList = Type.Object(
  { tasks: Type.Array(ref('Task')), count: Type.Integer(), next_cursor: orNull('string') },
  { title: 'TaskList' },
)

type Filter = Pick<Wanted, 'status' | 'type' | 'group' | 'batch' | 'error'> & {
  tag?: string
  error_like?: string
  created_after?: string
  created_before?: string
}
interface Page {
  limit?: number
  offset?: number
  cursor?: string
}
type Request = FastifyRequest<{ Body: never; Params: { id: string }; Querystring: never }>

/** /api/v1/tasks: submit, read, cancel, retry. */
export function taskRoutes(context: ServerContext): Route[] {
  return [
    submitTask(context),
    submitTasks(context),
    listTasks(context),
    getTask(context),
    cancelTask(context),
    purgeTask(context),
    retryTask(context),
    cancelTasks(context),
    retryTasks(context),
    purgeTasks(context),
  ]
}

function submitTask(context: ServerContext): Route {
  const { types, limits, basePath } = context
  return {
    method: 'POST',
    url: '/api/v1/tasks',
    scope: 'submit',
    summary: 'Submit a task',
    body: TaskInputSchema,
    bodyLimit: limits.taskBytesMax,
    before: (request) => refuseTaskLimits(request.body),
    answers: { 201: described(TASK, 'Accepted'), 200: described(TASK, 'The earlier task of a known idempotency key') },
    refusals: SUBMISSION_REFUSALS,
    handler: async (request, reply) => {
      const input = withHeaderKey(request.body as TaskInput, request.headers['idempotency-key'])
      const errors: FieldError[] = []
      const spec = await specOf(input, await types.of(input.type), '', errors)
      throwErrors(errors)
      const [submitted] = await submit(context, request, [spec]).catch((error: unknown) => {
        throw withoutIndex(error)
      })
      const { task, existing } = submitted!
      reply.header('Location', `${basePath}/api/v1/tasks/${task.id}`)
      reply.status(existing ? 200 : 201)
      // Returns no reply, because a promise of a reply waits for its end, with listeners for each call.
      if (!prefers(request, reply, 'minimal')) return taskJson(task)
      return { id: task.id, status: task.status }
    },
  }
}

function submitTasks(context: ServerContext): Route {
  const { types, limits } = context
  return {
    method: 'POST',
    url: '/api/v1/tasks/batch',
    scope: 'submit',
    summary: 'Submit many tasks: accepts all or none',
    body: Type.Object(
      { tasks: Type.Array(TaskInputSchema, { minItems: 1, maxItems: TASK_LIMITS.batchTasksMax }) },
      { additionalProperties: false },
    ),
    bodyLimit: limits.batchBytesMax,
    before: (request) => {
      const { tasks } = (request.body ?? {}) as { tasks?: unknown }
      if (!Array.isArray(tasks)) return
      for (const task of tasks) refuseTaskLimits(task)
      refuseManyEdges(tasks)
    },
    answers: { 201: listOf('tasks', SubmittedTask, 'SubmittedTasks') },
    refusals: SUBMISSION_REFUSALS,
    handler: async (request, reply) => {
      const { tasks } = request.body as { tasks: TaskInput[] }
      const errors: FieldError[] = []
      const specs = []
      for (const [index, input] of tasks.entries()) {
        specs.push(await specOf(input, await types.of(input.type), `tasks[${index}].`, errors, index))
        // A large batch lets other calls run in between.
        if (index % CHECKED_AT_ONCE === CHECKED_AT_ONCE - 1) await immediate()
      }
      throwErrors(errors)
      const submitted = await submit(context, request, specs)
      reply.status(201)
      reply.type(JSON_TYPE)
      const texts = answerTexts(submitted, prefers(request, reply, 'representation'))
      return `{"tasks":[${texts.join(',')}],"count":${texts.length}}`
    },
  }
}

/** In full up to a bounded number of bytes: the earlier tasks of known keys may have large results. */
function answerTexts(submitted: readonly Submitted[], isWhole: boolean): string[] {
  let bytes = 0
  return submitted.map(({ task }) => {
    const text = isWhole && bytes < WHOLE_BYTES_MAX ? taskText(task) : ''
    bytes += text.length
    return text === '' || bytes >= WHOLE_BYTES_MAX ? JSON.stringify({ id: task.id, status: task.status }) : text
  })
}

function listTasks({ queue }: ServerContext): Route {
  const slots = new Slots(LISTS_MAX, LIST_WAIT_MS)
  return {
    method: 'GET',
    url: '/api/v1/tasks',
    scope: 'read',
    summary: 'List tasks, newest first; pending tasks in the order of their starts',
    querystring: ListSchema,
    answers: { 200: TaskList },
    refusals: ['invalid_cursor'],
    handler: async (request, reply) => {
      const { limit = 50, offset = 0, cursor: from, ...filter } = request.query as Filter & Page
      for (const [field, value] of Object.entries({ cursor: from, error_like: filter.error_like })) {
        if (offset > 0 && value !== undefined) throw invalidField('offset', `cannot be given together with ${field}`)
      }
      const query = filterOf(filter)
      reply.type(JSON_TYPE)
      return slots.run(async () => {
        if (request.raw.socket.destroyed) return EMPTY_LIST
        const cursor = from ?? (await cursorBehind(queue, query, offset))
        if (cursor === null) return EMPTY_LIST
        const { tasks, nextCursor } = await pageOf(queue, { ...query, limit, ...(cursor === '' ? {} : { cursor }) })
        const [texts, next] = [tasks.map(taskText).join(','), JSON.stringify(nextCursor)]
        return `{"tasks":[${texts}],"count":${tasks.length},"next_cursor":${next}}`
      })
    },
  }
}

function getTask({ queue }: ServerContext): Route {
  return {
    method: 'GET',
    url: '/api/v1/tasks/:id',
    scope: 'read',
    summary: 'Get a task',
    params: IdParams,
    answers: { 200: TASK },
    refusals: ['not_found'],
    handler: async (request, reply) => {
      const { id } = (request as Request).params
      const [task] = await queue.get([id])
      if (!task) throw noTask(id)
      reply.type(JSON_TYPE)
      return taskText(task)
    },
  }
}

function cancelTask({ queue }: ServerContext): Route {
  return {
    method: 'DELETE',
    url: '/api/v1/tasks/:id',
    scope: 'submit',
    summary: 'Cancel a task',
    params: IdParams,
    querystring: Type.Object({}, { additionalProperties: false }),
    answers: { 200: described(TASK, 'Canceled'), 202: described(TASK, 'The running handler has not stopped yet') },
    refusals: ['not_found', 'task_finished'],
    handler: changeOne(queue, 'cancel'),
  }
}

function purgeTask({ queue }: ServerContext): Route {
  return {
    method: 'POST',
    url: '/api/v1/tasks/:id/purge',
    scope: 'submit',
    summary: 'Erase a finished task with its payload, result, error and events',
    params: IdParams,
    answers: { 204: Type.Null({ description: 'Purged' }) },
    refusals: ['not_found', 'task_not_finished'],
    handler: async (request, reply) => {
      const { id } = (request as Request).params
      const { results } = await queue.erase([id])
      const { outcome, task } = results[0]!
      if (outcome === 'unknown') throw noTask(id)
      if (outcome === 'refused') {
        const state = `task ${id} is ${task?.status ?? 'not finished'} and cannot be purged`
        throw new XQueueError('task_not_finished', `${state}: cancel it, wait for its end, then purge it`)
      }
      request.audited = { purged: true }
      return reply.status(204).send()
    },
  }
}

function retryTask({ queue }: ServerContext): Route {
  return {
    method: 'POST',
    url: '/api/v1/tasks/:id/retry',
    scope: 'submit',
    summary: 'Run a failed, canceled or timed-out task again',
    params: IdParams,
    answers: { 200: TASK },
    refusals: ['not_found', 'task_not_retryable'],
    handler: changeOne(queue, 'retry'),
  }
}

function cancelTasks({ queue }: ServerContext): Route {
  return {
    method: 'POST',
    url: '/api/v1/tasks/cancel',
    scope: 'admin',
    summary: 'Cancel all tasks that match the fields of the body; all tasks without one',
    body: BulkSchema,
    answers: { 202: ChangedSchema, 200: CountedSchema },
    handler: changeMany(queue, 'cancel'),
  }
}

function retryTasks({ queue }: ServerContext): Route {
  return {
    method: 'POST',
    url: '/api/v1/tasks/retry',
    scope: 'admin',
    summary: 'Retry all tasks that match the fields of the body; all tasks without one',
    body: BulkSchema,
    answers: { 202: ChangedSchema, 200: CountedSchema },
    handler: changeMany(queue, 'retry'),
  }
}

function purgeTasks({ queue }: ServerContext): Route {
  return {
    method: 'POST',
    url: '/api/v1/tasks/purge',
    scope: 'admin',
    summary: 'Erase all ended tasks that match the fields of the body; all ended tasks without one',
    body: BulkSchema,
    answers: { 202: ChangedSchema, 200: CountedSchema },
    handler: changeMany(queue, 'purge'),
  }
}

async function submit({ queue, countSubmissions }: ServerContext, { headers }: FastifyRequest, specs: TaskSpec[]) {
  const submitted = await sending(headers as TraceContext, specs, (traced) => queue.submit(traced))
  const known = submitted.filter(({ existing }) => existing).length
  countSubmissions('accepted', submitted.length - known)
  countSubmissions('existing', known)
  return submitted
}

function changeOne(queue: Queue, change: 'cancel' | 'retry') {
  return async (request: FastifyRequest, reply: FastifyReply) => {
    const { id } = (request as Request).params
    const { results } = await queue[change]({ ids: [id] })
    const { outcome, task } = results[0]!
    if (outcome === 'unknown' || !task) throw noTask(id)
    if (outcome === 'refused') {
      const code = change === 'cancel' ? 'task_finished' : 'task_not_retryable'
      throw new XQueueError(code, `task ${id} is ${task.status}: ${whyRefused(change, task)}`)
    }
    return reply.status(outcome === 'stopping' ? 202 : 200).send(taskJson(task))
  }
}

function changeMany(queue: Queue, change: 'cancel' | 'retry' | 'purge') {
  return async (request: FastifyRequest, reply: FastifyReply) => {
    const { dry_run: isDryRun = false, ...filter } = (request.body ?? {}) as Filter & { dry_run?: boolean }
    if (isDryRun) return reply.status(200).send(await countAll(queue, change, filterOf(filter)))
    const count =
      change === 'purge' ? await purgeAll(queue, filterOf(filter)) : await changeAll(queue, change, filterOf(filter))
    request.audited = { filter, matched: count }
    return reply.status(202).send({ count })
  }
}

function whyRefused(change: 'cancel' | 'retry', { status }: Task): string {
  if (change === 'cancel') return 'it has already ended'
  if (!RETRYABLE_STATUSES.includes(status as never)) return 'only failed, canceled and timed-out tasks can be retried'
  return 'a task in its after ended without success and has been deleted: submit it again'
}

/** Key and value; in the key, `\:` is an escaped colon. */
const TAG_PARTS = /^((?:\\:|[^:])*):(.*)$/s

/** Cursor after a number of tasks; empty at the start, null at the end of the list. */
async function cursorBehind(queue: Queue, filter: Wanted, offset: number): Promise<string | null> {
  let cursor: string | null = ''
  for (let left = offset; left > 0 && cursor !== null; left -= PAGE_MAX) {
    const page: ListQuery = { ...filter, limit: Math.min(left, PAGE_MAX), ...(cursor === '' ? {} : { cursor }) }
    cursor = (await queue.list(page)).nextCursor
  }
  return cursor
}

/** @throws XQueueError `invalid_request` */
function filterOf({ status, type, tag, group, batch, error, error_like: errorLike, ...given }: Filter): Wanted {
  const [createdAfter, createdBefore] = [timeOf(given, 'created_after'), timeOf(given, 'created_before')]
  if (createdAfter !== undefined && createdBefore !== undefined && createdAfter > createdBefore) {
    const bound = `must not be later than created_before, ${given.created_before}`
    throw invalidField('created_after', `${bound}: exchange them, or leave one out`)
  }
  const filter: Wanted = {
    ...(status ? { status } : {}),
    ...(type === undefined ? {} : { type }),
    ...(group === undefined ? {} : { group }),
    ...(batch === undefined ? {} : { batch }),
    ...(createdAfter === undefined ? {} : { createdAfter }),
    ...(createdBefore === undefined ? {} : { createdBefore }),
    ...(error === undefined ? {} : { error }),
    ...(errorLike === undefined ? {} : { errorLike }),
  }
  if (tag === undefined) return filter
  const [, key = '', value = ''] = TAG_PARTS.exec(tag) ?? []
  return { ...filter, tag: { key: key.replaceAll('\\:', ':'), value } }
}

/** The schema accepts some texts that are not times, such as a second 60. */
function timeOf(given: Filter, field: 'created_after' | 'created_before'): number | undefined {
  const text = given[field]
  if (text === undefined) return undefined
  const time = parseTime(text)
  if (time === undefined) throw invalidField(field, NO_TIME)
  return time
}

export function noTask(id: string): XQueueError {
  return new XQueueError(
    'not_found',
    `task ${JSON.stringify(id)} not found: it may have been deleted after its retention time`,
  )
}

function withHeaderKey(input: TaskInput, header: string | string[] | undefined): TaskInput {
  if (header === undefined) return input
  const key = String(header)
  const { idempotency_key = key } = input
  if (idempotency_key !== key) {
    throw new XQueueError('invalid_request', 'Idempotency-Key and idempotency_key differ: send only one of them')
  }
  if (key.length === 0 || key.length > TASK_LIMITS.idempotencyKeyCharsMax) {
    const allowed = `1 to ${TASK_LIMITS.idempotencyKeyCharsMax} characters`
    throw new XQueueError('invalid_request', `Idempotency-Key must have ${allowed}`)
  }
  return { ...input, idempotency_key }
}

/** A single submission is not `tasks[0]`. */
function withoutIndex(error: unknown): unknown {
  if (!(error instanceof XQueueError)) return error
  const ofOne = (text: string) => text.replace(/^tasks\[0\]\./, '')
  error.message = ofOne(error.message)
  for (const field of error.details.errors ?? []) field.path = ofOne(field.path)
  return error
}
