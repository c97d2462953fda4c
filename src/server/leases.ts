import { hostname } from 'node:os'
import type { FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import type { Lease, Queue, Turn, WorkerIdentity } from '../queue/queue.ts'
import { parseDurationMs } from '../task/duration.ts'
import { invalidField, leaseLost, XQueueError } from '../task/errors.ts'
import { type Json, joined, write } from '../task/json.ts'
import type { Outcome } from '../task/outcome.ts'
import { reportedProgress } from '../task/progress.ts'
import type { Status } from '../task/status.ts'
import { type Progress, TASK_LIMITS } from '../task/task.ts'
import { DurationSchema, durationOf, TypeNameSchema } from '../task/task-input.ts'
import { isoTime, taskJson } from '../task/task-json.ts'
import { json, nullable, orNull, ref, time, titled } from './fields.ts'
import { NamedTypes } from './named-types.ts'
import type { Route, ServerContext } from './route.ts'
import { StatusSchema } from './schemas.ts'
import { whileConnected } from './while-connected.ts'

const WAIT_MS_MAX = 60_000
/** Bytes at which a call stops taking tasks, checked after each step. */
const ANSWER_BYTES_MAX = 8 * 1024 * 1024
const TAKEN_AT_ONCE = 16
const LeaseParams = Type.Object({ lease: Type.String({ maxLength: 200 }) })
const PredecessorParams = Type.Object({ lease: Type.String({ maxLength: 200 }), id: Type.String({ maxLength: 200 }) })

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

const LeaseList = Type.Object({
  leases: Type.Array(
    Type.Object({
      lease: Type.String(),
      expires_at: time('Expiry unless the lease is renewed'),
      task: ref('Task'),
      predecessors: Type.Array(Predecessor, { description: 'Results of the tasks in `after`, in that order' }),
    }),
  ),
})

const Settled = Type.Object({ status: StatusSchema }, { title: 'Settled' })

const Renewed = Type.Object({
  expires_at: time('Expiry unless the lease is renewed'),
  cancel_requested: Type.Boolean(),
})

/** Workers in any language: take leases, settle them, keep them alive. */
export function leaseRoutes(context: ServerContext): Route[] {
  return [consumeTasks(context), completeTask(context), failTask(context), getPredecessor(context), renewLease(context)]
}

function consumeTasks({ queue, access, types, closing }: ServerContext): Route {
  const named = new NamedTypes(queue, types)
  return {
    method: 'POST',
    url: '/api/v1/tasks/consume',
    scope: 'work',
    quiet: true,
    summary: 'Take tasks to run, and wait if none are ready',
    body: Type.Object(
      {
        types: Type.Optional(
          Type.Array(TypeNameSchema, { minItems: 1, maxItems: 100, description: 'Default: all types' }),
        ),
        max: Type.Optional(Type.Integer({ minimum: 1, maximum: 1_000 })),
        wait: Type.Optional(durationOf({ title: 'ConsumeWait', most: WAIT_MS_MAX })),
        worker_id: Type.Optional(Type.String({ minLength: 1, maxLength: 100 })),
      },
      { additionalProperties: false },
    ),
    answers: { 200: LeaseList },
    refusals: ['invalid_duration', 'too_many_types', 'unknown_type'],
    handler: async (request) => {
      const body = request.body as { types?: string[]; max?: number; wait?: number | string; worker_id?: string }
      const waitMs = durationMs('wait', body.wait ?? 0)
      if (waitMs > WAIT_MS_MAX) throw new XQueueError('invalid_request', 'wait must be at most 60 seconds')
      if (body.types) await named.admit(request.principal!, body.types)
      const taken = body.types ?? (await queue.types()).map(({ type }) => type)
      // Worker names are separate per key, so workers of different keys are listed separately.
      const id = body.worker_id ?? `http-${request.ip}`
      const worker = remoteWorker(access ? `${request.principal!.name}/${id}` : id, taken, body.max)
      const turn = { worker, want: body.max ?? 1, waitMs, durable: true }
      const leases = await whileConnected(request, request.raw.socket, { access, closing }, (signal) =>
        takeSome(queue, { ...turn, signal }),
      )
      if (request.raw.socket.destroyed && leases.length > 0) {
        // The worker has disconnected: its tasks are released at no cost.
        const outcomes = leases.map(({ lease }) => ({ lease, outcome: { kind: 'released' } as const }))
        await queue.turn({ worker, want: 0, outcomes })
      }
      return {
        leases: leases.map(({ lease, expiresAt, task, predecessors }) => ({
          lease,
          expires_at: isoTime(expiresAt),
          task: taskJson(task),
          predecessors,
        })),
      }
    },
  }
}

function completeTask({ queue }: ServerContext): Route {
  return {
    method: 'POST',
    url: '/api/v1/leases/:lease/complete',
    scope: 'work',
    repairsText: true,
    summary: 'Report success',
    params: LeaseParams,
    body: Type.Object(
      { result: Type.Optional(Type.Unsafe<unknown>({ description: 'Any JSON' })) },
      { additionalProperties: false },
    ),
    answers: { 200: Settled },
    refusals: ['lease_lost'],
    handler: async (request) => {
      const { result = null } = (request.body ?? {}) as { result?: Json }
      const outcome = write(result)
      if ('fault' in outcome) throw invalidField(joined('result', outcome.fault.path), outcome.fault.message)
      return settle(queue, request, { kind: 'success', result: outcome.written })
    },
  }
}

function failTask({ queue }: ServerContext): Route {
  return {
    method: 'POST',
    url: '/api/v1/leases/:lease/fail',
    scope: 'work',
    repairsText: true,
    summary: 'Report a failure',
    params: LeaseParams,
    body: Type.Object(
      {
        error: Type.String({ maxLength: TASK_LIMITS.errorCharsMax }),
        retry: Type.Optional(Type.Boolean({ default: true })),
        delay: Type.Optional(DurationSchema),
      },
      { additionalProperties: false },
    ),
    answers: { 200: Settled },
    refusals: ['lease_lost', 'invalid_duration'],
    handler: async (request) => {
      const { error, retry = true, delay } = request.body as { error: string; retry?: boolean; delay?: number }
      const delayMs = delay === undefined ? null : durationMs('delay', delay)
      return settle(queue, request, { kind: 'failure', error, retry, delayMs })
    },
  }
}

function getPredecessor({ queue }: ServerContext): Route {
  return {
    method: 'GET',
    url: '/api/v1/leases/:lease/predecessors/:id',
    scope: 'work',
    summary: 'Get a predecessor with its result, also where the lease omitted it',
    params: PredecessorParams,
    answers: { 200: Predecessor },
    refusals: ['lease_lost', 'not_found'],
    handler: async (request) => {
      const { lease, id } = request.params as { lease: string; id: string }
      const found = await queue.predecessor(lease, id)
      if (found) return found
      const remedy = 'give the id of one of its predecessors'
      throw new XQueueError('not_found', `the task has not waited for ${JSON.stringify(id)}: ${remedy}`)
    },
  }
}

function renewLease({ queue }: ServerContext): Route {
  return {
    method: 'POST',
    url: '/api/v1/leases/:lease/heartbeat',
    scope: 'work',
    repairsText: true,
    quiet: true,
    summary: 'Renew a lease, and get whether its task was canceled',
    params: LeaseParams,
    body: Type.Object(
      {
        progress: Type.Optional(
          Type.Unsafe<Progress>({
            oneOf: [{ type: 'number' }, { type: 'object' }],
            description: '0–100 (a number outside becomes the nearest bound), or an object of at most 16 KiB',
          }),
        ),
      },
      { additionalProperties: false },
    ),
    answers: { 200: Renewed },
    refusals: ['lease_lost'],
    handler: async (request) => {
      const { lease } = request.params as { lease: string }
      const { progress } = (request.body ?? {}) as { progress?: Progress }
      const reported = progress === undefined ? {} : reportedProgress(progress)
      if ('ignored' in reported) throw invalidField('progress', `is not valid: ${reported.ignored}`)
      const renewals = [{ lease, ...reported }]
      const worker = remoteWorker('settling', [])
      const { renewed } = await queue.turn({ worker, want: 0, renewals, leaving: true })
      if (!renewed[0]) throw leaseLost(lease, 'it expired or was settled')
      return { expires_at: isoTime(renewed[0].expiresAt), cancel_requested: renewed[0].cancelRequested }
    },
  }
}

async function settle(queue: Queue, request: FastifyRequest, outcome: Outcome): Promise<{ status: Status }> {
  const { lease } = request.params as { lease: string }
  const outcomes = [{ lease, outcome }]
  const worker = remoteWorker('settling', [])
  const { settled } = await queue.turn({ worker, want: 0, outcomes, leaving: true, durable: true })
  const { accepted, status } = settled[0]!
  if (status === null) throw leaseLost(lease, 'it expired or was settled')
  if (!accepted) throw leaseLost(lease, `the task is ${status}, and this outcome is too late`)
  return { status }
}

/** Takes leases up to a bounded number of bytes; the next call gets the rest. */
async function takeSome(queue: Queue, turn: Turn): Promise<Lease[]> {
  const leases: Lease[] = []
  let bytes = 0
  for (;;) {
    const want = Math.min(turn.want - leases.length, TAKEN_AT_ONCE)
    const waitMs = leases.length === 0 ? (turn.waitMs ?? 0) : 0
    const taken = (await queue.turn({ ...turn, want, waitMs })).leases
    leases.push(...taken)
    if (taken.length < want || leases.length >= turn.want || turn.signal?.aborted) return leases
    bytes += taken.reduce((sum, lease) => sum + bytesOf(lease), 0)
    if (bytes >= ANSWER_BYTES_MAX) return leases
  }
}

function bytesOf({ task, predecessors }: Lease): number {
  return JSON.stringify(task.payload).length + JSON.stringify(predecessors).length
}

function remoteWorker(id: string, types: string[], concurrency = 1): WorkerIdentity {
  return { id, host: hostname(), pid: process.pid, types, concurrency, startedAt: Date.now() }
}

/** @throws XQueueError `invalid_duration` with the path */
function durationMs(path: string, value: number | string): number {
  try {
    return parseDurationMs(value)
  } catch (error) {
    const { message } = error as Error
    throw new XQueueError('invalid_duration', `${path}: ${message}`, { errors: [{ path, message }] })
  }
}
