import { Type } from '../task/json-schema.ts'
import { isoTime } from '../task/task-json.ts'
import { count, orNull, ref, timeOrNull, titled } from './fields.ts'
import type { Route, ServerContext } from './route.ts'
import { IdParams, StatusSchema } from './schemas.ts'
import { noTask } from './tasks.ts'
import { holderJson } from './type-json.ts'

const REASONS = [
  ...['ready', 'delayed', 'limit_reached', 'group_limit_reached', 'rate_limited', 'paused', 'held', 'no_worker'],
  ...['behind', 'running', 'finished', 'waits_for_tasks'],
]

const Explanation = titled(
  'Explanation',
  Type.Object({
    id: Type.String(),
    type: Type.String(),
    group: orNull('string'),
    status: StatusSchema,
    reason: { enum: REASONS },
    max_concurrency: orNull('integer'),
    holders: Type.Array(ref('Holder')),
    limits: Type.Array(
      Type.Object(
        {
          name: Type.String({ description: '`type:TYPE`, `group:TYPE/GROUP`, or a named limit' }),
          reason: Type.Enum(['paused', 'held', 'limit_reached', 'rate_limited']),
          needs: count('Units that the task needs'),
          max: orNull('integer'),
          in_use: count('Units in use'),
          until: timeOrNull('Time at which it ends, or may end'),
          holders: Type.Array(ref('Holder'), { description: 'For `limit_reached`' }),
        },
        { title: 'LimitInTheWay' },
      ),
      { description: 'If the task is ready: the limits because of which it does not start' },
    ),
    ahead: count('Number of tasks that run before it'),
    waits_for: Type.Array(Type.String(), { description: 'The tasks that it still waits for' }),
    successors: Type.Array(Type.String(), {
      description: 'The first 100 tasks that name it in `after` and that its end has not released, oldest first',
    }),
    has_more_successors: Type.Boolean(),
    until: timeOrNull('Time of the next possible change'),
  }),
)

/** GET /api/v1/tasks/{id}/explain: the reason why a task is not running. */
export function explainRoutes({ queue }: ServerContext): Route[] {
  return [
    {
      method: 'GET',
      url: '/api/v1/tasks/:id/explain',
      scope: 'read',
      summary: 'Explain why a task is not running',
      params: IdParams,
      answers: { 200: Explanation },
      refusals: ['not_found'],
      handler: async (request) => {
        const { id } = request.params as { id: string }
        const explanation = await queue.explain(id)
        if (!explanation) throw noTask(id)
        const { reason, task, holders, maxConcurrency, limits, ahead, waitsFor, successors, until } = explanation
        return {
          id,
          type: task.type,
          group: task.group,
          status: task.status,
          reason,
          max_concurrency: maxConcurrency,
          holders: holders.map(holderJson),
          limits: limits.map(({ inUse, until: end, holders: by, ...limit }) => {
            return { ...limit, in_use: inUse, until: isoTime(end), holders: by.map(holderJson) }
          }),
          ahead,
          waits_for: waitsFor,
          successors,
          has_more_successors: explanation.hasMoreSuccessors,
          until: isoTime(until),
        }
      },
    },
  ]
}
