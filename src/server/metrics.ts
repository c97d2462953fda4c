import { Counter, collectDefaultMetrics, Gauge, Histogram, type Registry } from 'prom-client'
import type { Engine, TypeInfo } from '../engine/engine.ts'
import type { Outcome } from '../task/outcome.ts'

const SECONDS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1_800]

/** Gauges that are read from the engine when the metrics are: all processes show the same. */
export function engineMetrics(engine: Engine, register: Registry): void {
  collectDefaultMetrics({ register, prefix: 'xqueue_' })
  const ofTypes = (name: string, help: string, value: (info: TypeInfo) => number | null) =>
    new Gauge({
      name,
      help,
      labelNames: ['type'],
      registers: [register],
      async collect() {
        this.reset()
        for (const info of await engine.types()) {
          const measured = value(info)
          if (measured !== null) this.set({ type: info.type }, measured)
        }
      },
    })
  ofTypes('xqueue_tasks_pending', 'Waiting tasks', ({ pending }) => pending)
  ofTypes('xqueue_tasks_processing', 'Running tasks', ({ processing }) => processing)
  ofTypes(
    'xqueue_concurrency_limit',
    'Most tasks of the type at once; absent without a limit',
    ({ maxConcurrency }) => maxConcurrency,
  )
  new Gauge({
    name: 'xqueue_tasks',
    help: 'Tasks kept, by status',
    labelNames: ['status'],
    registers: [register],
    async collect() {
      const { counts } = await engine.stats()
      for (const [status, count] of Object.entries(counts)) this.set({ status }, count)
    },
  })
}

/** What this process' worker did: hand the result to its `onAttempt`. */
export function attemptMetrics(register: Registry) {
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
