import { expect, it } from 'vitest'
import { redisCli, startRedis } from '../fixtures/redis.ts'

/** The contract on Redis 8 of Debian 13, with the program that replaces the system's Redis. */
process.env.TEST_REDIS = 'redis-8'
await import('./redis.test.ts')

it('runs on Redis 8', async () => {
  const redis = await startRedis()
  expect(redisCli(redis.port, 'INFO', 'server')).toContain('redis_version:8.')
  await redis.stop()
})
