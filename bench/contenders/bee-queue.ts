import BeeQueue from 'bee-queue'
import { type OpenContender, PAYLOAD } from './contender.ts'

/** bee-queue 2 on the same Redis: few features, little work per job. */
export const open: OpenContender = async (port) => {
  const settings = { redis: { host: '127.0.0.1', port: Number(port) } }
  const queue = new BeeQueue('bench', { ...settings, isWorker: false, storeJobs: false })
  await queue.ready()
  return {
    submitBatch: async (count) => {
      await queue.saveAll(Array.from({ length: count }, () => queue.createJob(PAYLOAD)))
    },
    submitOne: async () => {
      await queue.createJob(PAYLOAD).save()
    },
    work: async (concurrency, count) => {
      let left = count
      const all = Promise.withResolvers<void>()
      const worker = new BeeQueue('bench', { ...settings, storeJobs: false })
      worker.on('succeeded', () => {
        left -= 1
        if (left === 0) all.resolve()
      })
      worker.process(concurrency, async () => ({ ok: true }))
      await all.promise
      await worker.close()
    },
    close: async () => {
      await queue.close()
    },
  }
}
