import { beforeAll } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import { type RunningRedis, redisCli, startRedis } from '../fixtures/redis.ts'
import { queueContract } from './contract.ts'

let redis: RunningRedis
beforeAll(async () => {
  redis = await startRedis()
})

let stores = 0
/** Fewer on the servers that redis-8.test.ts and valkey-8.test.ts choose: they run the same scripts. */
const RANDOM_RUNS = process.env.XQUEUE_TEST_REDIS === undefined ? 60 : 15

queueContract(
  'Redis',
  async (options) => {
    // Each in keys of its own.
    const url = `${redis.url}?prefix=test${++stores}`
    const queue = await openQueue(url, options)
    const cleanup = async () => {
      await queue.close()
      redisCli(redis.port, 'FLUSHALL')
    }
    return { queue, second: () => openQueue(url, options), cleanup }
  },
  RANDOM_RUNS,
)
