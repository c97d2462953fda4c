import { call, type Server } from '../client/call.ts'
import type { Scope } from '../task/api-key.ts'
import { type JsonSchema, Type } from '../task/json-schema.ts'
import { STATUSES } from '../task/status.ts'
import type { TaskJson } from '../task/task-json.ts'

/** The tools of `xqueue mcp`: each is one call of the API, or a few that belong together. */
export interface McpTool {
  name: string
  title: string
  description: string
  /** The scope that a key needs to see the tool. */
  scope: Scope
  input: JsonSchema
  /** Whether it removes something that is not restored by another call. */
  destroys?: true
  run: (server: Server, input: never) => Promise<object>
}

const LIST_MAX = 200
const LINES_MAX = 200

const strict = (properties: Record<string, JsonSchema>) => Type.Object(properties, { additionalProperties: false })
const text = (description: string) => Type.String({ description })
const optional = (description: string) => Type.Optional(text(description))
const ID = { id: text('Id of the task') }
const NAME = { name: text('A named limit such as gpu, or type:TYPE, or group:TYPE/GROUP') }

const pathOf = (kind: string, name: string, verb = '') => `/${kind}/${encodeURIComponent(name)}${verb}`

type ById = { id: string }
type ByName = { name: string }

const READING: readonly McpTool[] = [
  {
    name: 'list_tasks',
    title: 'List tasks',
    description: 'List tasks, newest first, without payloads and results; pending tasks in the order of their starts.',
    scope: 'read',
    input: strict({
      status: Type.Optional(Type.Enum([...STATUSES])),
      type: optional('Task type'),
      group: optional('Group, such as a tenant'),
      batch: optional('Batch'),
      tag: optional('Tag, as key:value'),
      created_after: optional('Only tasks accepted at this time or later, such as 2030-01-31T12:00:00Z'),
      created_before: optional('Only tasks accepted before this time'),
      error: optional('A part of the error; A to Z also match a to z'),
      error_like: optional('An error: only tasks with the same one, apart from numbers and ids'),
      limit: Type.Optional(Type.Integer({ minimum: 1, maximum: LIST_MAX, description: 'Default 20' })),
      cursor: optional('next_cursor of the previous page'),
    }),
    run: async (server, { limit = 20, ...filter }: { limit?: number } & Record<string, string>) => {
      const query = new URLSearchParams({ ...filter, limit: String(limit) })
      const page = await call<{ tasks: TaskJson[]; next_cursor: string | null }>(server, 'GET', `/tasks?${query}`)
      return { tasks: page.tasks.map(briefly), next_cursor: page.next_cursor }
    },
  },
  {
    name: 'get_task',
    title: 'Get a task',
    description: 'Get a task with its payload, result, all kept attempts with their errors, and why it is not running.',
    scope: 'read',
    input: strict(ID),
    run: async (server, { id }: ById) => {
      const of = (what: string) => call<object>(server, 'GET', pathOf('tasks', id, what))
      const [task, attempts, explanation] = await Promise.all([of(''), of('/attempts'), of('/explain')])
      return { task, ...attempts, explanation }
    },
  },
  {
    name: 'explain_task',
    title: 'Explain why a task is not running',
    description:
      'The reason why a task is not running, the limits in its way, the tasks that hold them, and until when.',
    scope: 'read',
    input: strict(ID),
    run: (server, { id }: ById) => call(server, 'GET', pathOf('tasks', id, '/explain')),
  },
  {
    name: 'get_task_logs',
    title: 'Get the log of a task',
    description: `The lines that the handler of a task has logged, at most ${LINES_MAX} at once, oldest first.`,
    scope: 'read',
    input: strict({
      ...ID,
      after: Type.Optional(Type.Integer({ minimum: 0, description: '`last` of the previous answer' })),
    }),
    run: (server, { id, after = 0 }: ById & { after?: number }) =>
      call(server, 'GET', pathOf('tasks', id, `/logs?after=${after}&limit=${LINES_MAX}`)),
  },
  {
    name: 'list_limits',
    title: 'List limits',
    description: 'The limits that are set, with their use, and the types that are paused or held.',
    scope: 'read',
    input: strict({}),
    run: (server) => call(server, 'GET', '/limits'),
  },
  {
    name: 'get_limit',
    title: 'Get a limit',
    description: 'A limit with the tasks that hold it and those that wait.',
    scope: 'read',
    input: strict(NAME),
    run: (server, { name }: ByName) => call(server, 'GET', pathOf('limits', name)),
  },
  {
    name: 'get_statistics',
    title: 'Get statistics',
    description:
      'Counts by status, workers, and for each type its rates, percentiles of wait and run time, and limits.',
    scope: 'read',
    input: strict({}),
    run: async (server) => {
      const [stats, types] = await Promise.all([
        call<object>(server, 'GET', '/stats'),
        call<{ types: object[] }>(server, 'GET', '/types'),
      ])
      return { stats, types: types.types }
    },
  },
]

const CHANGING: readonly McpTool[] = [
  {
    name: 'submit_task',
    title: 'Submit a task',
    description: 'Submit a task. The same idempotency_key never creates a second one.',
    scope: 'submit',
    input: strict({
      type: text('Task type; get_statistics lists the known ones'),
      payload: Type.Optional(Type.Unknown({ description: 'Any JSON; default {}' })),
      priority: Type.Optional(Type.Integer({ minimum: 0, maximum: 9 })),
      delay: optional('Delay before the start, such as 90s'),
      max_retry: Type.Optional(Type.Integer({ minimum: 0 })),
      group: optional('Group, such as a tenant'),
      batch: optional('Batch'),
      tags: Type.Optional(Type.Record(Type.String())),
      idempotency_key: optional('Key of this submission'),
    }),
    run: (server, input: object) => call(server, 'POST', '/tasks', input),
  },
  {
    name: 'retry_task',
    title: 'Retry a task',
    description: 'Run a failed, canceled or timed-out task again, with its attempts counted from 0.',
    scope: 'submit',
    input: strict(ID),
    run: (server, { id }: ById) => call(server, 'POST', pathOf('tasks', id, '/retry')),
  },
  {
    name: 'cancel_task',
    title: 'Cancel a task',
    description: 'Cancel a waiting task, or ask the handler of a running one to stop.',
    scope: 'submit',
    destroys: true,
    input: strict(ID),
    run: (server, { id }: ById) => call(server, 'DELETE', pathOf('tasks', id)),
  },
  {
    name: 'set_limit',
    title: 'Set a limit',
    description: 'Create a named limit, or change the maximum or the rate of a limit; null removes one of them.',
    scope: 'admin',
    destroys: true,
    input: strict({
      ...NAME,
      max: Type.Optional(Type.Union([Type.Integer({ minimum: 1 }), Type.Null()])),
      rate: Type.Optional(
        Type.Union([strict({ max: Type.Integer({ minimum: 1 }), per: text('Window, such as 1m') }), Type.Null()]),
      ),
    }),
    run: (server, { name, ...change }: ByName) => call(server, 'PUT', pathOf('limits', name), change),
  },
  {
    name: 'hold_limit',
    title: 'Hold a limit',
    description: 'Start no task that uses a limit until a time has passed; "0" ends the hold.',
    scope: 'admin',
    input: strict({ ...NAME, for: text('Such as 20s or 5m, up to 24h') }),
    run: (server, { name, ...hold }: ByName) => call(server, 'POST', pathOf('limits', name, '/hold'), hold),
  },
  ...(['pause', 'resume'] as const).map(
    (verb): McpTool => ({
      name: `${verb}_limit`,
      title: verb === 'pause' ? 'Pause a limit' : 'Resume a limit',
      description:
        verb === 'pause'
          ? 'Start no task that uses a limit, or no task of a type (type:TYPE), until it is resumed.'
          : 'End the pause and the hold of a limit.',
      scope: 'admin',
      input: strict(NAME),
      run: (server, { name }: ByName) => call(server, 'POST', pathOf('limits', name, `/${verb}`)),
    }),
  ),
]

export const MCP_TOOLS: readonly McpTool[] = [...READING, ...CHANGING]

export function isReading(tool: McpTool): boolean {
  return READING.includes(tool)
}

function briefly({ id, type, status, attempts, created_at, started_at, completed_at, group, error }: TaskJson) {
  const first = error === null ? null : error.split('\n')[0]!.slice(0, 300)
  return { id, type, status, attempts, created_at, started_at, completed_at, group, error: first }
}
