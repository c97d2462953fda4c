import type { FastifyRequest } from 'fastify'
import { ATTEMPT_OUTCOMES, attemptJson } from '../task/attempt.ts'
import { Type } from '../task/json-schema.ts'
import { count, orNull, time, timeOrNull, titled } from './fields.ts'
import type { Route, ServerContext } from './route.ts'
import { IdParams } from './schemas.ts'
import { noTask } from './tasks.ts'

const Attempt = Type.Object(
  {
    number: Type.Integer({ minimum: 1, description: 'From 1; a run that does not count has the number of the next' }),
    delivery: count('The hand-out to a worker; no other attempt of the task has the same'),
    outcome: {
      enum: ATTEMPT_OUTCOMES,
      description: '`lost` with its worker, `released` by a worker that stopped, `held` by a hold of the type',
    },
    worker_id: orNull('string'),
    started_at: time('Start'),
    ended_at: timeOrNull('End; null while it runs'),
    error: orNull('string', { description: 'Error with its stack and the chain of its causes' }),
  },
  { title: 'Attempt' },
)

const Attempts = titled(
  'Attempts',
  Type.Object({
    attempts: Type.Array(Attempt, { description: 'Oldest first' }),
    left_out: count('Number of older attempts that are no longer kept'),
  }),
)

/** /api/v1/tasks/:id/attempts: each run of a task. A path of its own, because `attempts` of a task is their number. */
export function attemptRoutes({ queue }: ServerContext): Route[] {
  return [
    {
      method: 'GET',
      url: '/api/v1/tasks/:id/attempts',
      scope: 'read',
      summary: 'List the attempts of a task with their errors',
      params: IdParams,
      answers: { 200: Attempts },
      refusals: ['not_found'],
      handler: async (request) => {
        const { id } = (request as FastifyRequest<{ Params: { id: string } }>).params
        const found = await queue.attempts(id)
        if (!found) throw noTask(id)
        return { attempts: found.attempts.map(attemptJson), left_out: found.leftOut }
      },
    },
  ]
}
