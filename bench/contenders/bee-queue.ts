import BeeQueue from 'bee-queue'
import type { OpenContender, Payload } from './contender.ts'

/** bee-queue on the Redis at a port: few features, little work per job. */
export const open: OpenContender = async (port) => {
  const settings = { redis: { host: '127.0.0.1', port: Number(port) } }
  const queue = new BeeQueue('bench', { ...settings, isWorker: false, storeJobs: false })
  await queue.ready()
  return {
    submit: async (payloads) => {
      const jobs = payloads.map((payload) => queue.createJob(payload).retries(1))
      if (jobs.length === 1) await jobs[0]!.save()
      else await queue.saveAll(jobs)
    },
    work: async (concurrency, handle) => {
      const worker = new BeeQueue('bench', { ...settings, storeJobs: false })
      worker.process(concurrency, (job: { data: Payload }) => handle(job.data))
      return () => worker.close()
    },
    unfinished: async () => {
      const { waiting, active, delayed } = await queue.checkHealth()
      return waiting + active + delayed
    },
    close: async () => {
      await queue.close()
    },
  }
}
