import type { FastifyReply, FastifyRequest } from 'fastify'
import { XQueueError } from '../task/errors.ts'
import type { BatchInfo } from '../task/flow.ts'
import { Type } from '../task/json-schema.ts'
import { FINAL_STATUSES, STATUSES } from '../task/status.ts'
import { BatchSchema } from '../task/task-input.ts'
import { ChangedSchema, changeAll } from './bulk.ts'
import { count, described, titled } from './fields.ts'
import type { Route, ServerContext } from './route.ts'

const BatchParams = Type.Object({ batch: BatchSchema })

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

/** /api/v1/batches: tasks that were submitted under one name. */
export function batchRoutes({ queue }: ServerContext): Route[] {
  const nameIn = (request: FastifyRequest) => (request.params as { batch: string }).batch
  const known = async (name: string) => {
    const info = await queue.batch(name)
    if (!info) throw noBatch(name)
    return info
  }
  const change = (change: 'cancel' | 'retry') => async (request: FastifyRequest, reply: FastifyReply) => {
    const { batch } = await known(nameIn(request))
    const count = await changeAll(queue, change, { batch })
    request.audited = { matched: count }
    return reply.status(202).send({ count })
  }
  return [
    {
      method: 'GET',
      url: '/api/v1/batches/:batch',
      scope: 'read',
      summary: 'Get the progress of a batch',
      params: BatchParams,
      answers: { 200: described(Batch, 'Progress of the batch') },
      refusals: ['not_found'],
      handler: async (request) => batchJson(await known(nameIn(request))),
    },
    {
      method: 'DELETE',
      url: '/api/v1/batches/:batch',
      scope: 'submit',
      summary: 'Cancel the unfinished tasks of a batch',
      params: BatchParams,
      answers: { 202: ChangedSchema },
      refusals: ['not_found'],
      handler: change('cancel'),
    },
    {
      method: 'POST',
      url: '/api/v1/batches/:batch/retry',
      scope: 'submit',
      summary: 'Run the failed, canceled and timed-out tasks of a batch again',
      params: BatchParams,
      answers: { 202: ChangedSchema },
      refusals: ['not_found'],
      handler: change('retry'),
    },
  ]
}

function batchJson({ batch, total, counts }: BatchInfo) {
  const kept = Object.values(counts).reduce((sum, n) => sum + n, 0)
  const removed = total - kept
  const ended = removed + FINAL_STATUSES.reduce((sum, status) => sum + counts[status], 0)
  const progress = Math.floor((1_000 * ended) / total) / 10
  return { batch, total, ...counts, removed, progress, done: ended === total }
}

function noBatch(name: string): XQueueError {
  const detail = `batch ${JSON.stringify(name)} not found: it has no tasks, or they have been deleted`
  return new XQueueError('not_found', detail)
}
