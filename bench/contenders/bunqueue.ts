import { Queue, shutdownManager, Worker } from 'bunqueue/client'
import type { OpenContender, Payload } from './contender.ts'

/**
 * bunqueue inside of this process, which must be Bun: `memory`, `file PATH` (written up to 10 ms after the answer), or
 * `durable PATH` (written before the answer). Its SQLite runs with synchronous=NORMAL, so none of them syncs a task.
 */
export const open: OpenContender = async (where) => {
  const [mode, dataPath] = where.split(' ')
  const place = { embedded: true, ...(dataPath && { dataPath }) }
  const queue = new Queue<Payload>('bench', place)
  const opts = { attempts: 2, ...(mode === 'durable' && { durable: true }) }
  return {
    submit: async (payloads) => {
      if (payloads.length === 1) await queue.add('bench', payloads[0]!, opts)
      else await queue.addBulk(payloads.map((data) => ({ name: 'bench', data, opts })))
    },
    work: async (concurrency, handle) => {
      const options = { ...place, concurrency, batchSize: concurrency }
      const worker = new Worker<Payload>('bench', (job) => handle(job.data), options)
      return () => worker.close()
    },
    unfinished: async () => {
      const { waiting, active, delayed } = await queue.getJobCountsAsync()
      return waiting + active + delayed
    },
    close: async () => {
      await queue.close()
      shutdownManager()
    },
  }
}
