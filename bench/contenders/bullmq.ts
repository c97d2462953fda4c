import { type Job, Queue, Worker } from 'bullmq'
import { type OpenContender, PAYLOAD } from './contender.ts'

/** BullMQ on a local Redis without persistence: its fastest case, and the least durable one. */
export const open: OpenContender = async (port) => {
  const connection = { host: '127.0.0.1', port: Number(port), maxRetriesPerRequest: null }
  const queue = new Queue('bench', { connection })
  await queue.setGlobalConcurrency(1_000)
  return {
    submitBatch: async (count) => {
      await queue.addBulk(
        Array.from({ length: count }, () => ({ name: 'bench', data: PAYLOAD, opts: { attempts: 2 } })),
      )
    },
    submitOne: async () => {
      await queue.add('bench', PAYLOAD)
    },
    work: async (concurrency, count, failOnce = false) => {
      let left = count
      const all = Promise.withResolvers<void>()
      const run = async (job: Job) => {
        if (failOnce && job.attemptsMade === 0) throw new Error('once')
        return { ok: true }
      }
      const worker = new Worker('bench', run, { connection, concurrency })
      worker.on('completed', () => {
        left -= 1
        if (left === 0) all.resolve()
      })
      await all.promise
      return () => worker.close()
    },
    close: () => queue.close(),
  }
}
