import { beforeAll } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import { type RunningRedis, redisCli, startRedis } from '../fixtures/redis.ts'
import { queueContract } from './contract.ts'

let redis: RunningRedis
beforeAll(async () => {
  redis = await startRedis()
})

let stores = 0
/** The servers that redis-8.test.ts and valkey-8.test.ts choose run the same scripts, so each checks half. */
const HALF = { 'redis-8': 'even', 'valkey-8': 'odd' } as const
const server = process.env.TEST_REDIS as keyof typeof HALF | undefined

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
  server ? { part: HALF[server], randomRuns: 6 } : {},
)
