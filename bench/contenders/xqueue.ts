import { pino } from 'pino'
import type { Engine } from '../../src/engine/engine.ts'
import { openEngine } from '../../src/engine/open.ts'
import { Sweeper } from '../../src/engine/sweeper.ts'
import { completeSpec } from '../../src/task/task.ts'
import { normalizeHandlers } from '../../src/worker/handlers.ts'
import { Worker } from '../../src/worker/worker.ts'
import { type Contender, type OpenContender, PAYLOAD } from './contender.ts'

const logger = pino({ level: 'error' })

/** The embedded engine on a file, as durable as it is by default: WAL, synchronous=FULL. */
export const open: OpenContender = async (file) =>
  contend(await openEngine(`sqlite:${file}`, { retention: { ageMs: 86_400_000, countMax: 10_000_000 } }))

/** The library on any engine, with a limit that holds nothing up but is looked at. */
export async function contend(
  engine: Engine,
  limit: number | null = 1_000,
  claimAhead?: number,
  accept: Engine['submit'] = (specs) => engine.submit(specs),
): Promise<Contender> {
  await engine.configureType('bench', { declared: true, maxConcurrency: limit })
  const spec = completeSpec({ type: 'bench', payload: PAYLOAD })
  const ahead = claimAhead === undefined ? {} : { claimAhead }
  return {
    submitBatch: async (count) => {
      await accept(Array.from({ length: count }, () => spec))
    },
    submitOne: async () => {
      await accept([spec])
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
      const worker = new Worker({ engine, handlers, logger, concurrency, onAttempt, ...ahead })
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
