import { expect, it, vi } from 'vitest'
import { startRedis } from '../fixtures/redis.ts'
import { startServer } from '../fixtures/server.ts'

/** Pino's number of the level. */
const INFO = 30

interface Line {
  level: number
  msg: string
  check?: string
  seconds?: number
}

it('logs the beginning and the end of an outage of the store in one line each, with its duration, and counts it', async () => {
  const redis = await startRedis('--appendonly', 'yes')
  const server = await startServer({ engine: `${redis.url}?wait_ms=500`, mqtt: 'off' })
  const lines = () => server.log.map((line) => JSON.parse(line) as Line).filter(({ level }) => level >= INFO)
  const reported = () =>
    lines()
      .filter(({ check }) => check === 'storage')
      .map(({ level, msg }) => [level, msg])
  await redis.kill()
  await vi.waitFor(() => expect(reported()).toEqual([[40, 'health check storage failed']]), { timeout: 30_000 })
  await redis.start()
  const both = [
    [40, 'health check storage failed'],
    [30, 'health check storage recovered'],
  ]
  await vi.waitFor(() => expect(reported()).toEqual(both), { timeout: 30_000 })
  const { seconds } = lines().find(({ msg }) => msg.endsWith('recovered'))!
  expect(seconds).toBeGreaterThan(0)
  const metrics = (await server.get('/metrics')).body
  expect(metrics).toContain('xqueue_outages_total{check="storage"} 1')
  expect(metrics).toContain(`xqueue_outage_seconds_total{check="storage"} ${seconds}`)
  // A sweep each second fails meanwhile.
  expect(lines().filter(({ msg }) => msg.startsWith('a sweep failed'))).toHaveLength(1)
})
