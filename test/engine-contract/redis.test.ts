import { afterAll, beforeAll } from 'vitest'
import { openEngine } from '../../src/engine/open.ts'
import { type RunningRedis, redisCli, startRedis } from '../services/redis.ts'
import { engineContract } from './contract.ts'

let redis: RunningRedis
beforeAll(async () => {
  redis = await startRedis()
})
afterAll(() => redis.stop())

let stores = 0

engineContract('Redis', async (options) => {
  // Each in keys of its own.
  const url = `${redis.url}?prefix=test${++stores}`
  const engine = await openEngine(url, options)
  const cleanup = async () => {
    await engine.close()
    redisCli(redis.port, 'FLUSHALL')
  }
  return { engine, second: () => openEngine(url, options), cleanup }
})
