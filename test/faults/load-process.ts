import { existsSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import { pino } from 'pino'
import type { Queue } from '../../src/queue/queue.ts'
import type { Task, TaskSpec } from '../../src/task/task.ts'
import type { Line } from './history.ts'
import { LeaseTokens, recordedQueue } from './recorded-queue.ts'

/**
 * One process of a load: `submit` or `work` until it is asked to stop, by a message or by the end of its parent. Writes
 * down its actions and the answers, each line before it goes on. The code that it runs comes from `source`, which
 * may be another version of the program.
 */
export interface LoadInput {
  role: 'submit' | 'work'
  source: string
  url: string
  log: string
  limits: Record<string, number | null>
  named: Record<string, { max: number }>
  leaseMs: number
  /** Tasks that a submitter sends in a second. */
  rate: number
}

/** The least and the most that a handler takes. */
const RUN_MS = [1, 12] as const
const FAIL_SHARE = 0.05
const BATCH = 10
/** Nothing is trimmed: the checker wants all of it. */
const KEEP = { eventsMax: 1e9, retention: { ageMs: 86_400_000, countMax: 1e9 } }

const input = JSON.parse(process.argv[2]!) as LoadInput
const load = (file: string) => import(new URL(file, pathToFileURL(`${input.source}/`)).href)
/** A version from before the folder queue/ has these parts in engine/, under other names. */
const isEarlier = existsSync(join(input.source, 'engine/open.ts'))
const openQueue: typeof import('../../src/queue/open.ts').openQueue = isEarlier
  ? (await load('engine/open.ts')).openEngine
  : (await load('queue/open.ts')).openQueue
const sweeperFile = isEarlier ? 'engine/sweeper.ts' : 'queue/sweeper.ts'
const { Sweeper } = (await load(sweeperFile)) as typeof import('../../src/queue/sweeper.ts')
const { Worker } = (await load('worker/worker.ts')) as typeof import('../../src/worker/worker.ts')
const { normalizeHandlers } = (await load('worker/handlers.ts')) as typeof import('../../src/worker/handlers.ts')
const { completeSpec } = (await load('task/task.ts')) as typeof import('../../src/task/task.ts')

const file = openSync(input.log, 'a')
// Synchronous: what was written is there also when the process is killed in the next moment.
const write = (line: Line) => writeSync(file, `${JSON.stringify(line)}\n`)
const logger = pino({ level: process.env.TEST_FAULT_LOG ?? 'silent' }, pino.destination({ fd: 2, sync: true }))
const stopped = new AbortController()
process.once('message', () => stopped.abort())
process.once('disconnect', () => process.exit(1))

const queue = await open()
await (input.role === 'submit' ? submit() : work())
await queue.close()
process.exit(0)

/** Waits for a store that does not answer yet, as `xqueue serve` does; the test bounds the time. */
async function open(): Promise<Queue> {
  for (;;) {
    try {
      return await openQueue(input.url, { ...KEEP, leaseMs: input.leaseMs })
    } catch (error) {
      if ((error as { code?: string }).code !== 'engine_unavailable' || stopped.signal.aborted) throw error
      await sleep(100)
    }
  }
}

async function submit(): Promise<void> {
  const types = Object.keys(input.limits)
  process.send?.('ready')
  for (let round = 0; !stopped.signal.aborted; round++) {
    // Some batches are of one type, others of several.
    const isFlow = round % 4 === 3
    const specs = Array.from({ length: BATCH }, (_, index) => {
      const type = types[(round + (round % 3 === 0 ? index : 0)) % types.length]!
      const delayMs = index === 0 ? 30 : 0
      const flow = isFlow ? flowOf(index) : {}
      const uses = index % 2 === 0 && Object.keys(input.named).length > 0 ? usesOf(round + index) : undefined
      const spec = { type, payload: { round, index }, priority: index % 3, delayMs, queueTimeoutMs: 0, ...flow }
      return completeSpec({ ...spec, ...(uses && { uses }) })
    })
    const started = performance.now()
    try {
      for (const { task } of await queue.submit(specs)) {
        const { id, after, onFailure, uses } = task
        write({
          what: 'accepted',
          id,
          at: Date.now(),
          ...(after?.length ? { after, onFailure } : {}),
          ...(uses && { uses }),
        })
      }
    } catch (error) {
      const { code = String(error) } = error as { code?: string }
      write({ what: 'refused', code, afterMs: performance.now() - started, at: Date.now() })
    }
    await sleep(Math.max((BATCH / input.rate) * 1_000 - (performance.now() - started), 0))
  }
}

function usesOf(number: number): Record<string, number> {
  return { slots: 1 + (number % 3), [`tenant/${number % 4}`]: 1 }
}

/** Two that come first and may fail for good, some that wait for one of them, and one that waits for these. */
function flowOf(index: number): Partial<TaskSpec> {
  if (index < 2) return { maxRetry: 0 }
  if (index < BATCH - 1) return { after: [index % 2], maxRetry: 0 }
  return { after: Array.from({ length: BATCH - 3 }, (_, place) => place + 2), onFailure: 'run' }
}

async function work(): Promise<void> {
  const tokens = new LeaseTokens()
  const run = async (task: Task) => {
    // A date, and in earlier versions a number.
    const lease = tokens.take({ ...task, startedAt: Number(task.startedAt) })
    write({ what: 'started', lease, at: Date.now() })
    await sleep(RUN_MS[0] + Math.random() * (RUN_MS[1] - RUN_MS[0]))
    if (Math.random() < FAIL_SHARE) throw new Error('as it happens')
    return { lease }
  }
  const retry = { base: 0.02, cap: 0.1 }
  const handlers = Object.entries(input.limits).map(([type, concurrency]) => [
    type,
    { concurrency, retry, run, ...(Object.keys(input.named).length > 0 && { limits: input.named }) },
  ])
  const sweeper = new Sweeper(queue, logger)
  const watchedQueue = recordedQueue(queue, write, tokens)
  const worker = new Worker({
    queue: watchedQueue,
    ...(isEarlier ? { engine: watchedQueue } : {}),
    handlers: normalizeHandlers(Object.fromEntries(handlers)),
    logger,
    leaseMs: input.leaseMs,
  })
  sweeper.start()
  await worker.start()
  process.send?.('ready')
  if (!stopped.signal.aborted) await new Promise((resolve) => stopped.signal.addEventListener('abort', resolve))
  await worker.stop()
  await sweeper.stop()
}
