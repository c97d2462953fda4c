import { may } from '../access/principal.ts'
import type { Queue, WorkerInfo } from '../queue/queue.ts'
import { FINAL_STATUSES } from '../task/status.ts'
import { isoTime } from '../task/task-json.ts'
import { ANSWERS } from './answers.ts'
import type { Route, ServerContext } from './route.ts'

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
    answers: ANSWERS.stats,
    handler: () => readStats(queue, instanceId, startedAt),
  }
}

function getHealth({ queue, version, startedAt, live }: ServerContext): Route {
  const sharedHealth = shared(HEALTH_BELIEVED_MS, () => queue.health())
  return {
    method: 'GET',
    url: '/api/v1/health',
    scope: 'open',
    summary: 'Get whether tasks can be accepted and stored',
    answers: ANSWERS.health,
    handler: async (request, reply) => {
      const mayRead = may(request.principal, 'read')
      // A check writes to the disk, so calls within a second share one.
      const { engine: name, durability, checks } = await sharedHealth()
      const failed = checks.find(({ ok, degrades }) => !ok && !degrades)
      const isDegraded = checks.some(({ ok }) => !ok)
      const mqtt = live?.check()
      // Without its broker, only MQTT fails, so a load balancer must keep the server.
      const answer = {
        status: failed ? 'unhealthy' : isDegraded || mqtt?.ok === false ? 'degraded' : 'healthy',
        timestamp: isoTime(Date.now()),
        version,
        engine: name,
        durability,
        uptime: secondsSince(startedAt),
        checks: [...checks, ...(mqtt ? [mqtt] : [])].map(({ name: check, ok, detail }) => ({
          name: check,
          ok,
          detail,
        })),
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
    answers: ANSWERS.alive,
    handler: async () => ({ status: 'alive' }),
  }
}

function getStream({ queue }: ServerContext): Route {
  return {
    method: 'GET',
    url: '/api/v1/stream',
    scope: 'read',
    summary: "Get the engine's own figures about waiting tasks",
    answers: ANSWERS.stream,
    handler: async () => ({ stream_info: (await queue.stats()).stream }),
  }
}

function listWorkers({ queue, startedAt }: ServerContext): Route {
  return {
    method: 'GET',
    url: '/api/v1/workers',
    scope: 'read',
    summary: 'List the live workers over all processes',
    answers: ANSWERS.workers,
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
          host,
          pid,
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

/** Counts and rates as `/api/v1/stats` answers them. */
export async function readStats(queue: Queue, instanceId: string, startedAt: number) {
  const [{ counts, delayed, dependent, throughput, concurrencyLimits, stream }, workers] = await Promise.all([
    queue.stats(),
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
    ready_tasks: Math.max(0, counts.pending - delayed - dependent), // Tasks that more workers could start.
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

function secondsSince(startedAt: number): number {
  return (Date.now() - startedAt) / 1_000
}

function active(workers: readonly WorkerInfo[]): number {
  return workers.filter(({ running }) => running > 0).length
}
