import type { FastifyInstance } from 'fastify'
import { pino } from 'pino'
import { Registry } from 'prom-client'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import type { Queue } from '../../src/queue/queue.ts'
import { createServer } from '../../src/server/server.ts'
import { announce, normalizeHandlers } from '../../src/worker/handlers.ts'
import { type RunningRedis, startRedis } from '../fixtures/redis.ts'
import { startProxy, type TcpProxy } from '../fixtures/tcp-proxy.ts'
import { WAIT_MS } from './load.ts'

let redis: RunningRedis
let proxy: TcpProxy
let queue: Queue
let server: FastifyInstance
let base: string

beforeAll(async () => {
  redis = await startRedis()
  proxy = await startProxy(redis.port)
  queue = await openQueue(`redis://127.0.0.1:${proxy.port}?wait_ms=${WAIT_MS}`)
  const handlers = normalizeHandlers({ mail: { run: () => null } })
  await announce(queue, handlers)
  const logger = pino({ level: 'silent' })
  server = await createServer({ queue, handlers, logger, version: '1', instanceId: 'i', registry: new Registry() })
  base = await server.listen({ host: '127.0.0.1', port: 0 })
})
afterAll(async () => {
  await server?.close()
  await queue?.close()
  await proxy?.stop()
  await redis?.stop()
})

const submit = () =>
  fetch(`${base}/api/v1/tasks`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ type: 'mail' }),
  })

it('answers 503 with Retry-After while Redis is away, and 201 as soon as it is back', async () => {
  expect((await submit()).status).toBe(201)
  for (const fail of [proxy.cut, proxy.swallow]) {
    fail()
    const refused = await submit()
    expect(refused.status).toBe(503)
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
    const problem = (await refused.json()) as { code: string; detail: string }
    expect(problem.code).toBe('engine_unavailable')
    expect(problem.detail).toContain(`127.0.0.1:${proxy.port}`)
    proxy.mend()
    expect((await submit()).status).toBe(201)
  }
})

it('lets a submission wait for a Redis that is back within the bound', async () => {
  proxy.cut()
  // What was on its way when it broke is refused at once: nobody knows whether it arrived.
  expect((await submit()).status).toBe(503)
  const waiting = submit()
  const mended = new Promise((resolve) => setTimeout(resolve, WAIT_MS / 4)).then(() => proxy.mend())
  expect((await waiting).status).toBe(201)
  await mended
})

it('has metrics that say so, and those of the process', async () => {
  const metrics = async () => (await fetch(`${base}/metrics`)).text()
  expect(await metrics()).toMatch(/^xqueue_tasks_pending\{type="mail"\} \d+$/m)
  proxy.cut()
  const meanwhile = await metrics()
  expect(meanwhile).toContain('xqueue_health{check="storage"} 0')
  expect(meanwhile).toMatch(/^process_cpu_seconds_total \d/m)
  expect(meanwhile).not.toContain('xqueue_tasks_pending{')
  proxy.mend()
  await vi.waitFor(async () => expect(await metrics()).toContain('xqueue_health{check="storage"} 1'))
})
