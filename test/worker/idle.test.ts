import { pino } from 'pino'
import { expect, it } from 'vitest'
import { normalizeHandlers } from '../../src/worker/handlers.ts'
import { Worker } from '../../src/worker/worker.ts'
import { redisCli, startRedis } from '../fixtures/redis.ts'
import { openTestQueue } from '../fixtures/server.ts'

it('opens two connections to Redis for a worker without long tasks: for its steps and for messages', async () => {
  const { port, url } = await startRedis()
  // A call of the command line is a connection, too.
  const opened = () => Number(/total_connections_received:(\d+)/.exec(redisCli(port, 'INFO', 'stats'))![1]) - 1
  const before = opened()
  const queue = await openTestQueue(url)
  const handlers = normalizeHandlers({ t: { run: async () => null } })
  const worker = new Worker({ queue, handlers, logger: pino({ level: 'silent' }) })
  await worker.start()
  await worker.stop()
  expect(opened() - before - 1).toBe(2)
})
