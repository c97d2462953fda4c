import { afterAll, beforeAll } from 'vitest'
import { openEngine } from '../../src/engine/open.ts'
import { redisCli } from '../services/redis.ts'
import { startSentinel, type WatchedRedis } from '../services/redis-sentinel.ts'
import { engineContract } from './contract.ts'

const RANDOM_RUNS = 3

let watched: WatchedRedis
beforeAll(async () => {
  watched = await startSentinel()
})
afterAll(() => watched?.stop())

engineContract(
  'Redis through Sentinel',
  async (options) => {
    const engine = await openEngine(watched.url, options)
    const cleanup = async () => {
      await engine.close()
      redisCli(watched.master.port, 'FLUSHALL')
    }
    return { engine, second: () => openEngine(watched.url, options), cleanup }
  },
  RANDOM_RUNS,
)
