import type { FastifyRequest } from 'fastify'
import type { Lease, Queue, Turn, TurnAnswer, WorkerIdentity } from '../queue/queue.ts'
import { parseDurationMs } from '../task/duration.ts'
import { invalidField, XQueueError } from '../task/errors.ts'
import { Type } from '../task/json-schema.ts'
import { durationOf, TypeNameSchema, WorkerIdSchema } from '../task/task-input.ts'
import { isoTime, taskText } from '../task/task-json.ts'
import { json, nullable, orNull, ref, time, titled } from './fields.ts'
import { JSON_TYPE } from './headers.ts'
import { NamedTypes } from './named-types.ts'
import type { Route, ServerContext } from './route.ts'
import { StatusSchema } from './schemas.ts'
import { whileConnected } from './while-connected.ts'

/** How long a call may wait. */
export const WAIT_MS_MAX = 60_000
/** Bytes at which a call stops taking tasks, checked after each step. */
const ANSWER_BYTES_MAX = 8 * 1024 * 1024
/** Tasks of one step: few, because each can have 1 MiB; more while the tasks of this server are small. */
const STEP = 16
const STEP_OF_SMALL = 64
const SMALL_BYTES = 64 * 1024

export const Predecessor = titled(
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

export const LeaseList = Type.Object({
  leases: Type.Array(
    Type.Object({
      lease: Type.String(),
      expires_at: time('Expiry unless the lease is renewed'),
      task: ref('Task'),
      predecessors: Type.Array(Predecessor, { description: 'Results of the tasks in `after`, in that order' }),
    }),
  ),
})

/** Fields of a body that claims tasks. */
export const CLAIM_FIELDS = {
  types: Type.Optional(Type.Array(TypeNameSchema, { minItems: 1, maxItems: 100, description: 'Default: all types' })),
  wait: Type.Optional(durationOf({ title: 'ConsumeWait', most: WAIT_MS_MAX })),
  worker_id: Type.Optional(WorkerIdSchema),
  concurrency: Type.Optional(
    Type.Integer({
      ...{ minimum: 1, maximum: 1_000_000 },
      description: 'Tasks that the worker runs at once, for the list of workers; default: what this call takes',
    }),
  ),
}

export interface Claim {
  types?: string[]
  max?: number
  wait?: number | string
  worker_id?: string
  concurrency?: number
}

/** POST /api/v1/tasks/consume. */
export function claimRoutes(context: ServerContext): Route[] {
  const claims = new Claims(context)
  return [
    {
      method: 'POST',
      url: '/api/v1/tasks/consume',
      scope: 'work',
      quiet: true,
      summary: 'Take tasks to run, and wait if none are ready',
      body: Type.Object(
        { ...CLAIM_FIELDS, max: Type.Optional(Type.Integer({ minimum: 1, maximum: 1_000 })) },
        { additionalProperties: false },
      ),
      answers: { 200: LeaseList },
      refusals: ['invalid_duration', 'too_many_types', 'unknown_type'],
      handler: async (request, reply) => {
        const { max = 1, ...claim } = request.body as Claim
        const turn = { ...(await claims.turnOf(request, claim, max)), waitMs: waitMsOf(claim) }
        const { leases } = await claims.take(request, turn)
        reply.type(JSON_TYPE)
        return `{"leases":${leasesText(leases)}}`
      },
    },
  ]
}

type Taken = Pick<TurnAnswer, 'leases' | 'cancelRequested'>

/** Claims tasks for workers that call over HTTP. */
export class Claims {
  readonly #context: ServerContext
  readonly #named: NamedTypes
  #areSmall = false

  constructor(context: ServerContext) {
    this.#context = context
    this.#named = new NamedTypes(context.queue, context.types)
  }

  /**
   * The turn of a worker that claims up to `want` tasks.
   * @throws XQueueError `too_many_types`
   */
  async turnOf(request: FastifyRequest, { types, worker_id, concurrency }: Claim, want: number): Promise<Turn> {
    const { queue, access } = this.#context
    if (types) await this.#named.admit(request.principal!, types)
    const taken = types ?? (await queue.types()).map(({ type }) => type)
    // Worker names are separate per key, so workers of different keys are listed separately.
    const id = worker_id ?? `http-${request.ip}`
    const worker = remoteWorker(
      access ? `${request.principal!.name}/${id}` : id,
      taken,
      concurrency ?? Math.max(want, 1),
    )
    return { worker, want, durable: true, forwards: true }
  }

  /** Waits for tasks and takes them. If the worker has disconnected meanwhile, they are released at no cost. */
  async take(request: FastifyRequest, turn: Turn): Promise<Taken> {
    const { queue, access, closing } = this.#context
    const taken = await whileConnected(request, request.raw.socket, { access, closing }, (signal) =>
      this.#takeSome(queue, { ...turn, signal }),
    )
    await this.#releaseIfGone(request, turn.worker, taken.leases)
    return taken
  }

  /** One turn with outcomes and renewals, which also takes tasks. It does not wait. */
  async turn(request: FastifyRequest, turn: Turn): Promise<TurnAnswer> {
    const { queue } = this.#context
    const { outcomes: _, renewals: __, ...claim } = turn
    const want = Math.min(turn.want, this.#step)
    const answer = await queue.turn({ ...turn, want })
    if (answer.leases.length === want && want < turn.want) {
      // What this call has done already is answered; the next call meets the failure.
      const more = await this.#takeSome(queue, { ...claim, want: turn.want - want }).catch(() => null)
      answer.leases.push(...(more?.leases ?? []))
      answer.cancelRequested.push(...(more?.cancelRequested ?? []))
    }
    await this.#releaseIfGone(request, turn.worker, answer.leases)
    return answer
  }

  /** Records the size of an answer with tasks. */
  answered(bytes: number, tasks: number): void {
    if (tasks > 0) this.#areSmall = bytes / tasks <= SMALL_BYTES
  }

  get #step(): number {
    return this.#areSmall ? STEP_OF_SMALL : STEP
  }

  /** Takes leases up to a bounded number of bytes; the next call gets the rest. */
  async #takeSome(queue: Queue, turn: Turn): Promise<Taken> {
    const leases: Lease[] = []
    const cancelRequested: string[] = []
    let bytes = 0
    for (;;) {
      const want = Math.min(turn.want - leases.length, this.#step)
      const waitMs = leases.length === 0 ? (turn.waitMs ?? 0) : 0
      const answer = await queue.turn({ ...turn, want, waitMs }).catch((error: unknown) => {
        if (leases.length === 0) throw error
        return null
      })
      const taken = answer?.leases ?? []
      leases.push(...taken)
      cancelRequested.push(...(answer?.cancelRequested ?? []))
      if (taken.length < want || leases.length >= turn.want || turn.signal?.aborted) return { leases, cancelRequested }
      bytes += taken.reduce((sum, lease) => sum + Buffer.byteLength(leaseText(lease)), 0)
      if (bytes >= ANSWER_BYTES_MAX) return { leases, cancelRequested }
    }
  }

  async #releaseIfGone(request: FastifyRequest, worker: WorkerIdentity, leases: readonly Lease[]): Promise<void> {
    if (!request.raw.socket.destroyed || leases.length === 0) return
    const outcomes = leases.map(({ lease }) => ({ lease, outcome: { kind: 'released' } as const }))
    await this.#context.queue.turn({ worker, want: 0, outcomes })
  }
}

/** The text of each lease, for its size and for the answer. */
const texts = new WeakMap<Lease, string>()

/** Leases as JSON in an answer. */
export function leasesText(leases: readonly Lease[]): string {
  return `[${leases.map(leaseText).join(',')}]`
}

function leaseText(its: Lease): string {
  let text = texts.get(its)
  if (text === undefined) {
    const { lease, expiresAt, task, predecessors } = its
    const others = JSON.stringify({ lease, expires_at: isoTime(expiresAt), predecessors })
    text = `${others.slice(0, -1)},"task":${taskText(task)}}`
    texts.set(its, text)
  }
  return text
}

/** Its host and its process are not those of this server. */
export function remoteWorker(id: string, types: string[], concurrency = 1): WorkerIdentity {
  return { id, host: '', pid: 0, types, concurrency, startedAt: Date.now() }
}

/** @throws XQueueError `invalid_duration`, `invalid_request` */
export function waitMsOf({ wait = 0 }: Pick<Claim, 'wait'>): number {
  const waitMs = durationMs('wait', wait)
  if (waitMs > WAIT_MS_MAX) throw invalidField('wait', 'must be at most 60 seconds')
  return waitMs
}

/** @throws XQueueError `invalid_duration` with the path */
export function durationMs(path: string, value: number | string): number {
  try {
    return parseDurationMs(value)
  } catch (error) {
    const { message } = error as Error
    throw new XQueueError('invalid_duration', `${path}: ${message}`, { errors: [{ path, message }] })
  }
}
