import { beforeAll } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import { type RunningRedis, redisCli, startRedis } from '../fixtures/redis.ts'
import { queueContract } from './contract.ts'
import { Prefixes } from './prefixes.ts'

let redis: RunningRedis
beforeAll(async () => {
  redis = await startRedis()
})

const prefixes = new Prefixes()
/** The servers that redis-8.test.ts and valkey-8.test.ts choose run the same scripts, so each checks half. */
const HALF = { 'redis-8': 'even', 'valkey-8': 'odd' } as const
const server = process.env.TEST_REDIS as keyof typeof HALF | undefined

queueContract(
  'Redis',
  async (options) => {
    const prefix = prefixes.take()
    const url = `${redis.url}?prefix=${prefix}`
    const queue = await openQueue(url, options)
    const cleanup = async () => {
      await queue.close()
      redisCli(redis.port, 'FLUSHALL')
      prefixes.giveBack(prefix)
    }
    return { queue, second: () => openQueue(url, options), cleanup }
  },
  server ? { part: HALF[server], randomRuns: 6 } : {},
)
