import { expect, it, vi } from 'vitest'
import { RedisConnection } from '../../src/store/redis/client/redis-connection.ts'
import { parseRedisUrl } from '../../src/store/redis/client/redis-url.ts'
import { closeAfterwards } from '../fixtures/closing.ts'
import { redisCli, startRedis } from '../fixtures/redis.ts'
import { startProxy } from '../fixtures/tcp-proxy.ts'

const WAIT = { timeout: 20_000, interval: 20 }

it('reports that messages may have been missed once it listens again, even if steps run again before', async () => {
  const { port } = await startRedis()
  const proxy = await startProxy(port)
  const listens = () => redisCli(port, 'PUBSUB', 'NUMSUB', 'news').trim().endsWith('1')
  const reported: boolean[] = []
  const url = parseRedisUrl(`redis://127.0.0.1:${proxy.port}?wait_ms=20000`)
  const connection = new RedisConnection(url, () => reported.push(listens()))
  closeAfterwards(() => connection.close())
  await connection.open()
  await connection.subscribe('news', () => undefined)
  expect(reported).toEqual([])
  const accepted = proxy.accepted
  proxy.cut()
  // After some failed attempts, the pause before the next one is long.
  await vi.waitFor(() => expect(proxy.accepted).toBeGreaterThan(accepted + 8), WAIT)
  proxy.repair()
  await connection.info('server')
  await vi.waitFor(() => expect(listens()).toBe(true), WAIT)
  await vi.waitFor(() => expect(reported.at(-1)).toBe(true), WAIT)
})
