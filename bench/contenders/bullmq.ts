import { type Job, Queue, Worker } from 'bullmq'
import type { OpenContender } from './contender.ts'

/** BullMQ on the Redis at a port. */
export const open: OpenContender = async (port) => {
  const connection = { host: '127.0.0.1', port: Number(port), maxRetriesPerRequest: null }
  const queue = new Queue('bench', { connection })
  await queue.setGlobalConcurrency(1_000)
  const opts = { attempts: 2 }
  return {
    submit: async (payloads) => {
      if (payloads.length === 1) await queue.add('bench', payloads[0], opts)
      else await queue.addBulk(payloads.map((data) => ({ name: 'bench', data, opts })))
    },
    work: async (concurrency, handle) => {
      const worker = new Worker('bench', (job: Job) => handle(job.data), { connection, concurrency })
      return () => worker.close()
    },
    unfinished: () => queue.getJobCountByTypes('waiting', 'active', 'delayed', 'prioritized'),
    close: () => queue.close(),
  }
}
