import { Logger, makeWorkerUtils, run } from 'graphile-worker'
import { Pool } from 'pg'
import type { OpenContender, Payload } from './contender.ts'

const CONNECTIONS = 25
const logger = new Logger(() => (level, message) => {
  if (level === 'error') console.error(message)
})

/**
 * graphile-worker on the PostgreSQL at a URL, with the options that its page on performance measures: a local queue, and
 * outcomes in batches. It deletes a job that has succeeded, so it keeps no results.
 */
export const open: OpenContender = async (url) => {
  const pgPool = new Pool({ connectionString: url, max: CONNECTIONS })
  for (const event of ['error', 'connect'] as const) pgPool.on(event, () => undefined)
  const utils = await makeWorkerUtils({ pgPool, logger })
  await utils.migrate()
  return {
    submit: async (payloads) => {
      if (payloads.length === 1) await utils.addJob('bench', payloads[0], { maxAttempts: 2 })
      else await utils.addJobs(payloads.map((payload) => ({ identifier: 'bench', payload, maxAttempts: 2 })))
    },
    work: async (concurrency, handle) => {
      const worker = { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 }
      const bench = async (payload: unknown) => {
        await handle(payload as Payload)
      }
      const taskList = { bench }
      const runner = await run({ pgPool, logger, concurrency, noHandleSignals: true, taskList, preset: { worker } })
      return () => runner.stop()
    },
    unfinished: async () => {
      const { rows } = await pgPool.query('select count(*)::int as count from graphile_worker._private_jobs')
      return rows[0].count
    },
    close: async () => {
      await utils.release()
      await pgPool.end()
    },
  }
}
