import { existsSync, writeFileSync, writeSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { pino } from 'pino'
import {
  DoNotRetry,
  defineHandlers,
  type HandlerContext,
  RateLimited,
  RetryAfter,
  startWorker,
  type TaskWith,
} from '../../src/index.ts'

/** A worker for the tests, with a handler for each way in which one can end. The other clients have its twins. */

const STEP_MS = 20
const LOUD_MS = 50
const LOUD_STEPS = 60
const LOOK_MS = 5
const STILL_MS = 500
const logger = pino({ level: 'debug' }, pino.destination(2))

class WordlessError extends Error {}
Object.defineProperty(WordlessError.prototype, 'name', { value: 'WordlessError' })

/** An object nested too deep for JSON. */
function deep(): object {
  let object: object = {}
  for (let level = 0; level < 100_000; level++) object = { in: object }
  return object
}

/** Runs longer than its lease, and reports invalid progress all the time. */
async function loud(values: unknown[], progress: (value: never) => void): Promise<string> {
  for (let step = 0; step < LOUD_STEPS; step++) {
    progress(values[step % values.length] as never)
    await sleep(LOUD_MS)
  }
  return 'kept'
}

/** Writes on each look whether it holds its lease, and after which look it had stood still, until its signal aborts. */
async function watch({ lease, signal }: HandlerContext): Promise<never> {
  for (let last = performance.now(); ; ) {
    await sleep(LOOK_MS)
    const isOver = signal.aborted
    const now = performance.now()
    if (now - last > STILL_MS) writeSync(2, `woke with fence ${lease.fence}\n`)
    last = now
    writeSync(2, `looked: ${lease.isHeld()}\n`)
    if (!isOver) continue
    writeSync(2, 'aborted\n')
    throw signal.reason
  }
}

const handlers = defineHandlers({
  echo: { run: ({ payload }: TaskWith<unknown>, { attempt }) => ({ payload, attempt }) },
  steps: {
    concurrency: 70,
    groupConcurrency: 7,
    rate: { max: 900, per: '1m' },
    uses: { declared: 2 },
    limits: { declared: { max: 90 } },
    maxRetry: 5,
    queueTimeout: '2h',
    retry: { base: '3s', jitter: 0 },
    retention: { failed: '9d' },
    run: async ({ payload }: TaskWith<{ steps: number }>, { progress, signal, log }) => {
      for (let step = 0; step < payload.steps; step++) {
        progress({ step })
        await sleep(STEP_MS)
        if (signal.aborted) log.info(String(signal.reason))
        signal.throwIfAborted()
      }
      return 'all steps done'
    },
  },
  busy: {
    run: (_task: TaskWith<unknown>, { attempt }) => {
      if (attempt === 1) throw new RetryAfter(0.01, 'busy')
      return attempt
    },
  },
  later: {
    run: ({ payload }: TaskWith<string>, { attempt }) => {
      if (attempt === 1) throw new RetryAfter(Number(payload), 'busy')
      return attempt
    },
  },
  metered: {
    run: ({ payload, deliveries }: TaskWith<unknown>, { usage }) => {
      if (typeof payload === 'string' && deliveries === 1) {
        throw new RateLimited({ limit: payload, for: '1h' }, 'HTTP 429')
      }
      usage({ tokens: 1 })
      return 'metered'
    },
  },
  limited: {
    run: ({ payload, deliveries }: TaskWith<number>, { attempt }) => {
      if (deliveries === 1) throw new RateLimited({ for: payload }, 'HTTP 429')
      return attempt
    },
  },
  big: { run: (_task: TaskWith<unknown>) => ({ id: 2n ** 53n + 1n }) },
  loud: { run: (_task: TaskWith<unknown>, { progress }) => loud([Number.NaN, { text: 'x'.repeat(20_000) }], progress) },
  unruly: { run: (_task: TaskWith<unknown>, { progress }) => loud([deep()], progress) },
  never: {
    run: (_task: TaskWith<unknown>) => {
      throw Object.assign(new DoNotRetry(), { stack: 'this cannot work' })
    },
  },
  crash: {
    run: (_task: TaskWith<unknown>) => {
      throw new Error('out of order')
    },
  },
  wordless: {
    run: (_task: TaskWith<unknown>) => {
      throw new WordlessError('its text cannot be read')
    },
  },
  watch: { run: (_task: TaskWith<unknown>, context) => watch(context) },
  gated: {
    run: async ({ payload }: TaskWith<string>) => {
      writeFileSync(`${payload}.begun`, '')
      while (!existsSync(payload)) await sleep(LOOK_MS)
      return 'through'
    },
  },
  strange: { run: (_task: TaskWith<unknown>) => new Map() },
  join: {
    run: (_task: TaskWith<unknown>, { predecessors }) =>
      predecessors.map(({ id, type, status, result, error }) => [id, type, status, result, error]),
  },
  talks: {
    run: async ({ payload }: TaskWith<number>, { log, attempt }) => {
      log.info({ number: attempt }, 'begun')
      log.warn({ value: new Map() }, 'odd')
      await sleep(payload * 1_000)
      log.info('done')
    },
  },
  lengths: {
    run: async (_task: TaskWith<unknown>, { predecessors, predecessor }) => {
      const whole = await Promise.all(predecessors.map(({ id }) => predecessor(id)))
      return whole.map(({ result }) => (result as { payload: string }).payload.length)
    },
  },
})

const worker = await startWorker({
  server: process.env.XQUEUE_SERVER!,
  workerId: 'worker-under-test',
  handlers,
  logger,
  concurrency: 3,
  shutdown: process.argv[2] ?? '30',
  storeWait: 0,
})
process.once('SIGTERM', () => void worker.stop())
