import { pino } from 'pino'
import { openQueue } from '../../src/queue/open.ts'
import type { Queue } from '../../src/queue/queue.ts'
import { Sweeper } from '../../src/queue/sweeper.ts'
import { completeSpec } from '../../src/task/task.ts'
import { normalizeHandlers } from '../../src/worker/handlers.ts'
import { Worker } from '../../src/worker/worker.ts'
import { type Contender, type OpenContender, PAYLOAD, type Payload, workUntil } from './contender.ts'

const logger = pino({ level: 'error' })

/**
 * The embedded engine on a file, as durable as it is by default: WAL, synchronous=FULL. `<file>`, and after it one of
 * `KINDS`.
 */
export const open: OpenContender = async (where) => {
  const [file, variant] = where.split(' ')
  const engine = await openQueue(`sqlite:${file}`, { retention: { ageMs: 86_400_000, countMax: 10_000_000 } })
  return contend(engine, KINDS[variant ?? ''])
}

/**
 * Kinds of tasks by their name: each in a group of its own, with named limits, or beside tasks that a limit keeps
 * waiting.
 */
export const KINDS: Readonly<Record<string, Options>> = {
  groups: { ownGroups: true },
  'limits-1': { namedLimits: 1 },
  'limits-3': { namedLimits: 3 },
  'limits-8': { namedLimits: 8 },
  saturated: { saturated: 10_000 },
}

export interface Options {
  limit?: number | null
  claimAhead?: number | undefined
  accept?: Queue['submit']
  /** Each task is in a group of its own. */
  ownGroups?: boolean
  /** Named limits that each task uses; they delay nothing but are checked. */
  namedLimits?: number
  /** Waiting tasks, each of a key of its own whose limit is paused. */
  saturated?: number
}

async function saturate(engine: Queue, count: number): Promise<void> {
  await engine.configureLimit('key/*', { max: 1 })
  await engine.configureLimit('key/*', { paused: true })
  const spec = completeSpec({ type: 'bench', payload: PAYLOAD, queueTimeoutMs: 0 })
  for (let from = 0; from < count; from += 1_000) {
    await engine.submit(
      Array.from({ length: 1_000 }, (_, index) => ({ ...spec, uses: { [`key/${from + index}`]: 1 } })),
    )
  }
}

/** The library on any engine, with a limit that delays nothing but is checked. */
export async function contend(engine: Queue, options: Options = {}): Promise<Contender> {
  const { limit = 1_000, claimAhead, accept = (specs) => engine.submit(specs), ownGroups = false } = options
  const { namedLimits = 0, saturated = 0 } = options
  await engine.configureType('bench', { declared: true, maxConcurrency: limit })
  const uses = Object.fromEntries(Array.from({ length: namedLimits }, (_, index) => [`limit-${index}`, 1]))
  for (const name in uses) await engine.configureLimit(name, { max: 1_000 })
  const spec = completeSpec({ type: 'bench', payload: PAYLOAD, ...(namedLimits > 0 && { uses }) })
  if (saturated > 0) await saturate(engine, saturated)
  const ahead = claimAhead === undefined ? {} : { claimAhead }
  let groups = 0
  const next = (payload: object) => ({ ...spec, payload, ...(ownGroups && { group: `group-${++groups}` }) })
  return {
    submit: async (payloads) => {
      await accept(payloads.map(next))
    },
    work: async (concurrency, handle) => {
      const sweeper = new Sweeper(engine, logger)
      sweeper.start()
      const run = ({ payload }: { payload: unknown }) => handle(payload as Payload)
      const handlers = normalizeHandlers({ bench: { concurrency: limit, retry: { base: 0 }, run } })
      const worker = new Worker({ queue: engine, handlers, logger, concurrency, ...ahead })
      await worker.start()
      return async () => {
        await worker.stop()
        await sweeper.stop()
      }
    },
    unfinished: async () => {
      const { counts } = await engine.stats()
      return counts.pending + counts.processing
    },
    fill: async (contender, count, kind) => {
      const delayed = { ...spec, delayMs: 86_400_000 }
      for (let filled = 0; filled < count; filled += 1_000) {
        await engine.submit(Array.from({ length: 1_000 }, () => (kind === 'delayed' ? delayed : spec)))
      }
      if (kind === 'finished') await (await workUntil(contender, 1_000, count))()
    },
    close: () => engine.close(),
  }
}
