import { Queue, Worker } from 'bullmq'
import { type OpenContender, PAYLOAD } from './contender.ts'

/** BullMQ on a local Redis without persistence: its fastest case, and the least durable one. */
export const open: OpenContender = async (port) => {
  const connection = { host: '127.0.0.1', port: Number(port), maxRetriesPerRequest: null }
  const queue = new Queue('bench', { connection })
  await queue.setGlobalConcurrency(1_000)
  return {
    submitBatch: async (count) => {
      await queue.addBulk(Array.from({ length: count }, () => ({ name: 'bench', data: PAYLOAD })))
    },
    submitOne: async () => {
      await queue.add('bench', PAYLOAD)
    },
    work: async (concurrency, count) => {
      let left = count
      const all = Promise.withResolvers<void>()
      const worker = new Worker('bench', async () => ({ ok: true }), { connection, concurrency })
      worker.on('completed', () => {
        left -= 1
        if (left === 0) all.resolve()
      })
      await all.promise
      await worker.close()
    },
    close: () => queue.close(),
  }
}
