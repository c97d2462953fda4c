import { Counter, collectDefaultMetrics, Gauge, Histogram, type Registry } from 'prom-client'
import type { Engine } from '../engine/engine.ts'
import type { Outcome } from '../task/outcome.ts'

const SECONDS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1_800]

/** Gauges that are read from the engine when the metrics are: all processes show the same. */
export function engineMetrics(engine: Engine, register: Registry): void {
  collectDefaultMetrics({ register, prefix: 'xqueue_' })
  const labelNames = ['type'] as const
  const pending = new Gauge({ name: 'xqueue_tasks_pending', help: 'Waiting tasks', labelNames, registers: [register] })
  const running = new Gauge({
    name: 'xqueue_tasks_processing',
    help: 'Running tasks',
    labelNames,
    registers: [register],
  })
  const limit = new Gauge({
    name: 'xqueue_concurrency_limit',
    help: 'Most tasks of the type at once; absent without a limit',
    labelNames,
    registers: [register],
  })
  new Gauge({
    name: 'xqueue_tasks',
    help: 'Tasks kept, by status',
    labelNames: ['status'],
    registers: [register],
    async collect() {
      const [stats, types] = await Promise.all([engine.stats(), engine.types()])
      for (const [status, count] of Object.entries(stats.counts)) this.set({ status }, count)
      for (const gauge of [pending, running, limit]) gauge.reset()
      for (const info of types) {
        const { type } = info
        pending.set({ type }, info.pending)
        running.set({ type }, info.processing)
        if (info.maxConcurrency !== null) limit.set({ type }, info.maxConcurrency)
      }
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
