import type { FastifyInstance } from 'fastify'
import { Counter, collectDefaultMetrics, Gauge, Histogram, type Registry } from 'prom-client'
import type { TypeInfo } from '../queue/queue.ts'
import { XQueueError } from '../task/errors.ts'
import type { Outcome } from '../task/outcome.ts'
import { ofText } from './fields.ts'
import type { CountSubmissions, Route, ServerContext, ServerOptions } from './route.ts'

const MISNAMED = ['nodejs_active_handles_total', 'nodejs_active_requests_total', 'nodejs_active_resources_total']
const SUBMIT_ROUTES = ['/api/v1/tasks', '/api/v1/tasks/batch']
/** Route label of requests without a route. */
const NO_ROUTE = 'none'
const OUTCOMES: readonly Outcome['kind'][] = ['success', 'failure', 'timeout', 'released', 'held']
const SECONDS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1_800]

/**
 * Gauges that are read from the store on each scrape, the same in all processes. While the store is unavailable, they
 * have no values, and `xqueue_health` is 0.
 */
export function engineMetrics({ queue, live, stalls, version, registry }: ServerOptions): void {
  const types = shared(() => queue.types({ demand: true }))
  const gauge = (name: string, help: string, label: string, read: () => Promise<[value: string, measured: number][]>) =>
    new Gauge({
      name,
      help,
      labelNames: [label],
      registers: [registry],
      async collect() {
        this.reset()
        for (const [value, measured] of await read().catch(noneWhileAway)) this.set({ [label]: value }, measured)
      },
    })
  const ofTypes = (name: string, help: string, measure: (info: TypeInfo) => number | null) =>
    gauge(name, help, 'type', async () => {
      const measured = (await types()).map((info): [string, number | null] => [info.type, measure(info)])
      return measured.filter((entry): entry is [string, number] => entry[1] !== null)
    })
  ofTypes('xqueue_tasks_pending', 'Waiting tasks, including delayed and dependent ones', ({ pending }) => pending)
  ofTypes('xqueue_tasks_delayed', 'Waiting tasks with a start time in the future', ({ delayed }) => delayed)
  ofTypes('xqueue_tasks_dependent', 'Waiting tasks that wait for other tasks', ({ dependent }) => dependent)
  ofTypes('xqueue_tasks_ready', 'Waiting tasks whose time has come, also those that limits hold back', readyOf)
  ofTypes(
    'xqueue_tasks_runnable',
    'Running tasks, and ready ones that all limits allow to start, up to 10,000: the demand for workers',
    ({ runnable }) => runnable,
  )
  ofTypes('xqueue_tasks_processing', 'Running tasks', ({ processing }) => processing)
  ofTypes('xqueue_workers', 'Live workers that run the type', ({ workers }) => workers)
  ofTypes('xqueue_paused', '1 while the type is paused', ({ paused }) => Number(paused))
  ofTypes('xqueue_held', '1 while the type is held', ({ heldUntil }) => Number(heldUntil !== null))
  ofTypes('xqueue_stalled', '1 while no free worker starts the ready tasks of the type', ({ type }) =>
    Number(stalls?.isStalled(type) ?? false),
  )
  ofTypes(
    'xqueue_concurrency_limit',
    'Maximum number of running tasks of the type; absent without a limit',
    ({ maxConcurrency }) => maxConcurrency,
  )
  gauge('xqueue_tasks', 'Stored tasks by status', 'status', async () => Object.entries((await queue.stats()).counts))
  gauge('xqueue_health', '1 for each passed check of /api/v1/health, 0 for a failed one', 'check', async () => {
    const { checks } = await queue.health()
    return [...checks, ...(live ? [live.check()] : []), ...(stalls ? [stalls.check()] : [])].map(({ name, ok }) => [
      name,
      Number(ok),
    ])
  })
  gauge('xqueue_build_info', 'Always 1; the label is the version', 'version', async () => [[version, 1]])
}

/** The figures are counted one after another, so they may be inconsistent under load. */
function readyOf({ pending, delayed, dependent }: TypeInfo): number {
  return Math.max(0, pending - delayed - dependent)
}

/** Concurrent callers share one answer, because all gauges of a type are read at once. */
function shared<T>(ask: () => Promise<T>): () => Promise<T> {
  let underWay: Promise<T> | null = null
  return () => {
    underWay ??= ask().finally(() => {
      underWay = null
    })
    return underWay
  }
}

function noneWhileAway(error: unknown): [] {
  if (error instanceof XQueueError && error.code === 'engine_unavailable') return []
  throw error
}

/** Counts an answered request of a route. */
export type CountAnswer = (method: string, route: string, status: number) => void

/** Counts requests by route; the result counts those that no hook sees. */
export function requestMetrics(server: FastifyInstance, register: Registry, count: CountSubmissions): CountAnswer {
  const requests = new Counter({
    name: 'xqueue_http_requests_total',
    help: 'HTTP requests answered by this process, by route and status',
    labelNames: ['method', 'route', 'status'],
    registers: [register],
  })
  const countAnswer: CountAnswer = (method, route, status) => {
    requests.inc({ method, route, status: String(status) })
    if (method === 'POST' && SUBMIT_ROUTES.includes(route) && status >= 400) count('refused', 1)
  }
  server.addHook('onResponse', ({ method, routeOptions: { url } }, { statusCode }, done) => {
    if (url === undefined) countAnswer(NO_ROUTE, NO_ROUTE, statusCode)
    else countAnswer(method, url, statusCode)
    done()
  })
  return countAnswer
}

/** Counts tasks submitted over HTTP, and refused calls. */
export function submissionMetrics(register: Registry): CountSubmissions {
  const submissions = new Counter({
    name: 'xqueue_submissions_total',
    help: 'Submissions over HTTP: accepted tasks, existing tasks (known idempotency key), refused calls',
    labelNames: ['outcome'],
    registers: [register],
  })
  for (const outcome of ['accepted', 'existing', 'refused']) submissions.inc({ outcome }, 0)
  return (outcome, count) => submissions.inc({ outcome }, count)
}

/** Counts outages by health check. */
export function outageMetrics(register: Registry, checks: readonly string[]) {
  const of = (name: string, help: string) => new Counter({ name, help, labelNames: ['check'], registers: [register] })
  const outages = of('xqueue_outages_total', 'Number of times that a health check began to fail in this process')
  const seconds = of('xqueue_outage_seconds_total', 'Total duration of ended outages')
  for (const check of checks) {
    outages.inc({ check }, 0)
    seconds.inc({ check }, 0)
  }
  return {
    began: (check: string) => outages.inc({ check }),
    ended: (check: string, length: number) => seconds.inc({ check }, length),
  }
}

/**
 * Counts the attempts of this process's worker; pass the result as its `onAttempt`.
 * @param types get all their series at the start, because a rate misses the first increment of a new series
 */
export function attemptMetrics(register: Registry, types: Iterable<string>) {
  const labelNames = ['type'] as const
  const attempts = new Counter({
    name: 'xqueue_attempts_total',
    help: 'Attempts that ended in this process, by outcome',
    labelNames: ['type', 'outcome'],
    registers: [register],
  })
  const histogram = (name: string, help: string) =>
    new Histogram({ name, help, labelNames, buckets: SECONDS, registers: [register] })
  const wait = histogram('xqueue_task_wait_seconds', 'From run_at to the start of the attempt')
  const run = histogram('xqueue_task_run_seconds', 'From the start of the attempt to its end')
  for (const type of types) {
    for (const outcome of OUTCOMES) attempts.inc({ type, outcome }, 0)
    for (const seconds of [wait, run]) seconds.zero({ type })
  }
  return ({
    type,
    outcome,
    waitMs,
    runMs,
  }: {
    type: string
    outcome: Outcome['kind']
    waitMs: number
    runMs: number
  }) => {
    attempts.inc({ type, outcome })
    wait.observe({ type }, Math.max(0, waitMs) / 1_000)
    run.observe({ type }, runMs / 1_000)
  }
}

/** CPU, memory, files and the event loop of the process. */
function processMetrics(register: Registry): void {
  collectDefaultMetrics({ register })
  // These gauges have names that Prometheus discourages; the ones by type of resource contain the same data.
  for (const name of MISNAMED) register.removeSingleMetric(name)
}

export function metricsRoutes({ registry }: ServerContext): Route[] {
  // Measuring the delay of the event loop wakes the process a hundred times a second, so it begins with the first call.
  let isMeasuring = false
  const measure = () => {
    if (!isMeasuring) processMetrics(registry)
    isMeasuring = true
  }
  return [
    {
      method: 'GET',
      url: '/metrics',
      scope: 'read',
      vital: true,
      whole: true,
      summary: 'Prometheus metrics',
      answers: { 200: ofText('text/plain', 'Metrics in the Prometheus text format') },
      handler: async (_request, reply) => {
        measure()
        return reply.type(registry.contentType).send(await registry.metrics())
      },
    },
  ]
}
