import BeeQueue from 'bee-queue'
import { type OpenContender, PAYLOAD } from './contender.ts'

/** bee-queue 2 on the same Redis: few features, little work per job. */
export const open: OpenContender = async (port) => {
  const settings = { redis: { host: '127.0.0.1', port: Number(port) } }
  const queue = new BeeQueue('bench', { ...settings, isWorker: false, storeJobs: false })
  await queue.ready()
  return {
    submitBatch: async (count) => {
      await queue.saveAll(Array.from({ length: count }, () => queue.createJob(PAYLOAD).retries(1)))
    },
    submitOne: async () => {
      await queue.createJob(PAYLOAD).save()
    },
    work: async (concurrency, count, failOnce = false) => {
      let left = count
      const all = Promise.withResolvers<void>()
      const worker = new BeeQueue('bench', { ...settings, storeJobs: false })
      worker.on('succeeded', () => {
        left -= 1
        if (left === 0) all.resolve()
      })
      const failed = new Set<string>()
      worker.process(concurrency, async (job: { id: string }) => {
        if (failOnce && !failed.has(job.id)) {
          failed.add(job.id)
          throw new Error('once')
        }
        return { ok: true }
      })
      await all.promise
      return () => worker.close()
    },
    close: async () => {
      await queue.close()
    },
  }
}
