import { expect, it } from 'vitest'
import { redisCli, startRedis } from '../fixtures/redis.ts'

/** The contract on Valkey 8 of Debian 13, with the program that replaces the system's Redis. */
process.env.TEST_REDIS = 'valkey-8'
await import('./redis.test.ts')

it('runs on Valkey 8', async () => {
  const redis = await startRedis()
  expect(redisCli(redis.port, 'INFO', 'server')).toContain('valkey_version:8.')
  await redis.stop()
})
