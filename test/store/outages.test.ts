import { pino } from 'pino'
import { afterEach, expect, it, vi } from 'vitest'
import { type App, startApp } from '../../src/app.ts'
import { loadConfig } from '../../src/config/config.ts'
import { startRedis } from '../fixtures/redis.ts'

const closing: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

interface Line {
  level: number
  msg: string
  check?: string
  seconds?: number
}

it('tells the beginning and the end of an outage of the store in one line each, with its length, and counts it', async () => {
  const redis = await startRedis('--appendonly', 'yes')
  closing.push(() => redis.stop())
  const lines: Line[] = []
  const logger = pino({ level: 'info' }, { write: (line) => lines.push(JSON.parse(line)) })
  const flags = { engine: `${redis.url}?wait_ms=500`, port: '0', mqtt: 'off' }
  const { config } = await loadConfig(flags, {}, import.meta.dirname)
  const app: App = await startApp(config, { server: true, worker: false }, logger, new Map())
  closing.push(() => app.stop())
  const told = () => lines.filter(({ check }) => check === 'storage').map(({ level, msg }) => [level, msg])
  await redis.kill()
  await vi.waitFor(() => expect(told()).toEqual([[40, 'health check storage failed']]), { timeout: 30_000 })
  await redis.start()
  const both = [
    [40, 'health check storage failed'],
    [30, 'health check storage recovered'],
  ]
  await vi.waitFor(() => expect(told()).toEqual(both), { timeout: 30_000 })
  const { seconds } = lines.find(({ msg }) => msg.endsWith('recovered'))!
  expect(seconds).toBeGreaterThan(0)
  const metrics = await (await fetch(`${app.address}/metrics`)).text()
  expect(metrics).toContain('xqueue_outages_total{check="storage"} 1')
  expect(metrics).toContain(`xqueue_outage_seconds_total{check="storage"} ${seconds}`)
  // A sweep each second fails meanwhile.
  expect(lines.filter(({ msg }) => msg.startsWith('a sweep failed')).length).toBeLessThan(2)
})
