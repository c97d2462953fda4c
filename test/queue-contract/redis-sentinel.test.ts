import { beforeAll } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import { redisCli } from '../fixtures/redis.ts'
import { startSentinel, type WatchedRedis } from '../fixtures/redis-sentinel.ts'
import { queueContract } from './contract.ts'

const RANDOM_RUNS = 3

let watched: WatchedRedis
beforeAll(async () => {
  watched = await startSentinel()
})

queueContract(
  'Redis through Sentinel',
  async (options) => {
    const queue = await openQueue(watched.url, options)
    const cleanup = async () => {
      await queue.close()
      redisCli(watched.master.port, 'FLUSHALL')
    }
    return { queue, second: () => openQueue(watched.url, options), cleanup }
  },
  { part: 'connection', randomRuns: RANDOM_RUNS },
)
