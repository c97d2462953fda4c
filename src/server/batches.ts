import type { FastifyReply, FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { XQueueError } from '../task/errors.ts'
import type { BatchInfo } from '../task/flow.ts'
import { FINAL_STATUSES } from '../task/status.ts'
import { BatchSchema } from '../task/task-input.ts'
import { ANSWERS } from './answers.ts'
import { changeAll } from './bulk.ts'
import type { Route, ServerContext } from './route.ts'

const BatchParams = Type.Object({ batch: BatchSchema })

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
      answers: ANSWERS.batchInfo,
      refusals: ['not_found'],
      handler: async (request) => batchJson(await known(nameIn(request))),
    },
    {
      method: 'DELETE',
      url: '/api/v1/batches/:batch',
      scope: 'submit',
      summary: 'Cancel the unfinished tasks of a batch',
      params: BatchParams,
      answers: ANSWERS.changed,
      refusals: ['not_found'],
      handler: change('cancel'),
    },
    {
      method: 'POST',
      url: '/api/v1/batches/:batch/retry',
      scope: 'submit',
      summary: 'Run the failed, canceled and timed-out tasks of a batch again',
      params: BatchParams,
      answers: ANSWERS.changed,
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
