import { type Job, type JobResult, PgBoss } from 'pg-boss'
import type { OpenContender, Payload } from './contender.ts'

/** Jobs of one fetch: each fetch and each batch of outcomes is one statement. */
const FETCHED_AT_ONCE = 100
const CONNECTIONS = 25

/**
 * pg-boss on the PostgreSQL at a URL. A worker fetches batches, runs as many of a batch at once as its concurrency says,
 * continues without a pause while batches are full, and is notified of new jobs.
 */
export const open: OpenContender = async (url) => {
  const boss = new PgBoss({
    connectionString: url,
    max: CONNECTIONS,
    schedule: false,
    supervise: false,
    useListenNotify: true,
    connectionTimeoutMillis: 60_000,
  })
  boss.on('error', (error) => console.error(error))
  await boss.start()
  await boss.createQueue('bench', { notify: true, retryLimit: 1 })
  return {
    submit: async (payloads) => {
      if (payloads.length === 1) await boss.send('bench', payloads[0]!)
      else
        await boss.insert(
          'bench',
          payloads.map((data) => ({ data })),
        )
    },
    work: async (concurrency, handle) => {
      const fetching = {
        batchSize: FETCHED_AT_ONCE,
        burstWhenBatchFull: true,
        pollingIntervalSeconds: 0.5,
        perJobResults: true,
      } as const
      await boss.work('bench', fetching, async (jobs: Job<Payload>[]) => {
        const outcomes: JobResult[] = []
        const left = jobs.values()
        const lane = async () => {
          for (const { id, data } of left) {
            outcomes.push({ id, status: 'completed', output: (await handle(data)) as object })
          }
        }
        await Promise.all(Array.from({ length: concurrency }, lane))
        return outcomes
      })
      return () => boss.offWork('bench', { wait: true })
    },
    unfinished: async () => {
      const sql = "select count(*)::int as count from pgboss.job where name = 'bench' and state < 'completed'"
      const { rows } = await boss.getDb().executeSql(sql)
      return rows[0].count
    },
    close: () => boss.stop({ graceful: true }),
  }
}
