import { may } from '../access/principal.ts'
import type { Queue, WorkerInfo } from '../queue/queue.ts'
import { Type } from '../task/json-schema.ts'
import { FINAL_STATUSES, STATUSES } from '../task/status.ts'
import { isoTime } from '../task/task-json.ts'
import { count, described, orNull, seconds, time, titled } from './fields.ts'
import { limitJson } from './limit-targets.ts'
import type { Route, ServerContext } from './route.ts'
import { typeJson } from './type-json.ts'

/** Maximum number of named limits in the figures of each second. */
const LIMITS_SHOWN_MAX = 200

export const StatsSchema = titled(
  'Stats',
  Type.Object({
    ...Object.fromEntries(
      STATUSES.map((status) => [`${status}_tasks`, count(`Stored tasks with the status ${status}`)]),
    ),
    delayed_tasks: count('Pending tasks with a start time in the future'),
    dependent_tasks: count('Pending tasks that wait for other tasks'),
    ready_tasks: count('Pending tasks whose time has come, also those that limits hold back'),
    runnable_tasks: orNull('integer', {
      description:
        'Running tasks, and ready ones that all limits allow to start: the demand for workers. Null in events',
    }),
    total_workers: count('Live workers over all processes'),
    active_workers: count('Workers with running tasks'),
    processed_tasks: count('Stored tasks that have ended'),
    failed_tasks_count: count('The same as `failed_tasks`'),
    stream_info: Type.Object(
      { length: count('Unfinished tasks'), groups: count('Number of readers') },
      { description: 'Unfinished tasks (`length`) in the engine; see GET /api/v1/stream' },
    ),
    concurrency_limits: Type.Record(Type.Integer(), { description: 'Limits by type' }),
    throughput: Type.Number({ description: 'Ended tasks per second, over the last minute' }),
    instance_id: Type.String({ description: 'The process that answers' }),
    is_running: Type.Boolean({ description: 'Always true' }),
    uptime: seconds('Time since the start of this process'),
  }),
)

const Health = titled(
  'Health',
  Type.Object({
    status: { enum: ['healthy', 'degraded', 'unhealthy'] },
    timestamp: time('Time of the answer'),
    version: Type.Optional(Type.String()),
    engine: Type.Optional(Type.String()),
    durability: Type.Optional(Type.String({ description: 'Failures that an accepted task survives' })),
    uptime: Type.Optional(seconds('Time since the start of this process')),
    checks: Type.Optional(Type.Array(Type.Object({ name: Type.String(), ok: Type.Boolean(), detail: Type.String() }))),
    failed_check: Type.Optional(Type.String()),
  }),
)

const StreamInfo = titled(
  'StreamInfo',
  Type.Object({
    length: count('Unfinished tasks'),
    groups: count('Number of readers'),
    consumers: Type.Array(Type.Object({ name: Type.String(), pending: Type.Integer(), idle: Type.Number() })),
    streams: Type.Array(Type.Object({ name: Type.String(), length: Type.Integer() })),
  }),
)

/** A worker is written with a call once in 20 s, with what it has done since. */
const BEHIND = '; up to 20 s behind, and while the worker is idle by the wait of its call more'

const Workers = titled(
  'WorkerList',
  Type.Object({
    total_workers: Type.Integer(),
    active_workers: Type.Integer(),
    processed_tasks: Type.Integer({ description: `Attempts of these workers that succeeded${BEHIND}` }),
    failed_tasks: Type.Integer({ description: `Attempts of these workers that failed${BEHIND}` }),
    uptime: seconds('Time since the start of this process'),
    workers: Type.Array(
      Type.Object({
        id: Type.String(),
        host: orNull('string', { description: 'Null for a worker over HTTP' }),
        pid: orNull('integer', { description: 'Null for a worker over HTTP' }),
        types: Type.Array(Type.String()),
        concurrency: Type.Integer(),
        running: Type.Integer({ description: 'Tasks that it runs now' }),
        started_at: time('Time of the start'),
        last_seen: time(`Time of the latest call${BEHIND}`),
      }),
    ),
  }),
)

const HEALTH_BELIEVED_MS = 1_000

/** Statistics, health and workers. */
export function systemRoutes(context: ServerContext): Route[] {
  return [getStats(context), getHealth(context), getLiveness(), getStream(context), listWorkers(context)]
}

function getStats({ queue, instanceId, startedAt }: ServerContext): Route {
  return {
    method: 'GET',
    url: '/api/v1/stats',
    scope: 'read',
    summary: 'Get counts and rates over all processes',
    answers: { 200: StatsSchema },
    handler: () => readStats(queue, instanceId, startedAt, { demand: true }),
  }
}

function getHealth({ queue, version, startedAt, live, stalls }: ServerContext): Route {
  const sharedHealth = shared(HEALTH_BELIEVED_MS, () => queue.health())
  return {
    method: 'GET',
    url: '/api/v1/health',
    scope: 'open',
    summary: 'Get whether tasks can be accepted and stored',
    answers: { 200: Health, 503: described(Health, 'Unhealthy: `failed_check` names the failed check') },
    handler: async (request, reply) => {
      const mayRead = may(request.principal, 'read')
      // A check writes to the disk, so calls within a second share one.
      const { engine: name, durability, checks: ofStore } = await sharedHealth()
      // Without its broker, only MQTT fails, so a load balancer must keep the server.
      const mqtt = live ? [{ ...live.check(), degrades: true }] : []
      const checks = [...ofStore, ...mqtt, ...(stalls ? [stalls.check()] : [])]
      const failed = checks.find(({ ok, degrades }) => !ok && !degrades)
      const answer = {
        status: failed ? 'unhealthy' : checks.some(({ ok }) => !ok) ? 'degraded' : 'healthy',
        timestamp: isoTime(Date.now()),
        version,
        engine: name,
        durability,
        uptime: secondsSince(startedAt),
        checks: checks.map(({ name: check, ok, detail }) => ({ name: check, ok, detail })),
        ...(failed ? { failed_check: failed.name } : {}),
      }
      // A load balancer needs the status without a key; the details need `read`.
      const shown = mayRead ? answer : { status: answer.status, timestamp: answer.timestamp }
      return reply.status(failed ? 503 : 200).send(shown)
    },
  }
}

function getLiveness(): Route {
  return {
    method: 'GET',
    url: '/api/v1/live',
    scope: 'open',
    summary: 'Get whether the process runs',
    answers: { 200: Type.Object({ status: Type.String() }) },
    handler: async () => ({ status: 'alive' }),
  }
}

function getStream({ queue }: ServerContext): Route {
  return {
    method: 'GET',
    url: '/api/v1/stream',
    scope: 'read',
    summary: "Get the engine's own figures about waiting tasks",
    answers: { 200: Type.Object({ stream_info: StreamInfo }) },
    handler: async () => ({ stream_info: (await queue.stats()).stream }),
  }
}

function listWorkers({ queue, startedAt }: ServerContext): Route {
  return {
    method: 'GET',
    url: '/api/v1/workers',
    scope: 'read',
    summary: 'List the live workers over all processes',
    answers: { 200: Workers },
    handler: async () => {
      const workers = await queue.workers()
      return {
        total_workers: workers.length,
        active_workers: active(workers),
        processed_tasks: workers.reduce((sum, { processed }) => sum + processed, 0),
        failed_tasks: workers.reduce((sum, { failed }) => sum + failed, 0),
        uptime: secondsSince(startedAt),
        workers: workers.map(({ id, host, pid, types, concurrency, running, startedAt: since, lastSeen }) => ({
          id,
          host: host === '' ? null : host,
          pid: pid === 0 ? null : pid,
          types,
          concurrency,
          running,
          started_at: isoTime(since),
          last_seen: isoTime(lastSeen),
        })),
      }
    },
  }
}

/** Shares one answer among calls within `ms`. */
function shared<T>(ms: number, ask: () => Promise<T>): () => Promise<T> {
  let last: { at: number; answer: Promise<T> } | undefined
  return () => {
    const now = performance.now()
    if (!last || now - last.at >= ms) last = { at: now, answer: ask() }
    return last.answer
  }
}

/**
 * What pages show each second: the answer of `/api/v1/stats`, `types` without payload schemas, and the first of the
 * named `limits`.
 */
export async function readFigures(queue: Queue, instanceId: string, startedAt: number) {
  const types = (await queue.types()).map((info) => ({ ...typeJson(info), payload_schema: undefined }))
  const limits = (await queue.limits()).slice(0, LIMITS_SHOWN_MAX).map(limitJson)
  return { ...(await readStats(queue, instanceId, startedAt)), types, limits }
}

/** Counts and rates as `/api/v1/stats` answers them. */
export async function readStats(queue: Queue, instanceId: string, startedAt: number, query = { demand: false }) {
  const [{ counts, delayed, dependent, runnable, throughput, concurrencyLimits, stream }, workers] = await Promise.all([
    queue.stats(query),
    queue.workers(),
  ])
  return {
    pending_tasks: counts.pending,
    processing_tasks: counts.processing,
    success_tasks: counts.success,
    failed_tasks: counts.failed,
    canceled_tasks: counts.canceled,
    timeout_tasks: counts.timeout,
    delayed_tasks: delayed,
    dependent_tasks: dependent,
    ready_tasks: Math.max(0, counts.pending - delayed - dependent),
    runnable_tasks: runnable,
    total_workers: workers.length,
    active_workers: active(workers),
    // Names of the Go XQueue.
    processed_tasks: FINAL_STATUSES.reduce((sum, status) => sum + counts[status], 0),
    failed_tasks_count: counts.failed,
    stream_info: { length: stream.length, groups: stream.groups },
    concurrency_limits: concurrencyLimits,
    throughput,
    instance_id: instanceId,
    is_running: true,
    uptime: secondsSince(startedAt),
  }
}

/** By a clock that is never set back. */
function secondsSince(startedAt: number): number {
  return (performance.now() - startedAt) / 1_000
}

function active(workers: readonly WorkerInfo[]): number {
  return workers.filter(({ running }) => running > 0).length
}
