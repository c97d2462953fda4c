import { pino } from 'pino'
import { openQueue } from '../../src/queue/open.ts'
import type { Queue } from '../../src/queue/queue.ts'
import { Sweeper } from '../../src/queue/sweeper.ts'
import { completeSpec } from '../../src/task/task.ts'
import { normalizeHandlers } from '../../src/worker/handlers.ts'
import { Worker } from '../../src/worker/worker.ts'
import { type Contender, type OpenContender, PAYLOAD } from './contender.ts'

const logger = pino({ level: 'error' })

/**
 * The embedded engine on a file, as durable as it is by default: WAL, synchronous=FULL. `<file>`, and after it `groups`
 * for tasks that are each in a group of their own.
 */
export const open: OpenContender = async (where) => {
  const [file, variant] = where.split(' ')
  const engine = await openQueue(`sqlite:${file}`, { retention: { ageMs: 86_400_000, countMax: 10_000_000 } })
  return contend(engine, { ownGroups: variant === 'groups' })
}

interface Options {
  limit?: number | null
  claimAhead?: number | undefined
  accept?: Queue['submit']
  /** Each task is in a group of its own. */
  ownGroups?: boolean
}

/** The library on any engine, with a limit that delays nothing but is checked. */
export async function contend(engine: Queue, options: Options = {}): Promise<Contender> {
  const { limit = 1_000, claimAhead, accept = (specs) => engine.submit(specs), ownGroups = false } = options
  await engine.configureType('bench', { declared: true, maxConcurrency: limit })
  const spec = completeSpec({ type: 'bench', payload: PAYLOAD })
  const ahead = claimAhead === undefined ? {} : { claimAhead }
  let groups = 0
  const next = () => (ownGroups ? { ...spec, group: `group-${++groups}` } : spec)
  return {
    submitBatch: async (count) => {
      await accept(Array.from({ length: count }, next))
    },
    submitOne: async () => {
      await accept([next()])
    },
    work: async (concurrency, count, failOnce = false) => {
      const sweeper = new Sweeper(engine, logger)
      sweeper.start()
      let left = count
      const all = Promise.withResolvers<void>()
      const onAttempt = ({ outcome }: { outcome: string }) => {
        if (outcome === 'success') left -= 1
        if (left === 0) all.resolve()
      }
      const run = async (_: unknown, { attempt }: { attempt: number }) => {
        if (failOnce && attempt === 1) throw new Error('once')
        return { ok: true }
      }
      const handlers = normalizeHandlers({ bench: { concurrency: limit, retry: { base: 0 }, run } })
      const worker = new Worker({ queue: engine, handlers, logger, concurrency, onAttempt, ...ahead })
      await worker.start()
      await all.promise
      return async () => {
        await worker.stop()
        await sweeper.stop()
      }
    },
    fill: async (contender, count, kind) => {
      const delayed = { ...spec, delayMs: 86_400_000 }
      for (let filled = 0; filled < count; filled += 1_000) {
        await engine.submit(Array.from({ length: 1_000 }, () => (kind === 'delayed' ? delayed : spec)))
      }
      if (kind === 'finished') await (await contender.work(1_000, count))()
    },
    close: () => engine.close(),
  }
}
