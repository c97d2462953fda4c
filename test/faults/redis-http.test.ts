import { beforeAll, expect, it, vi } from 'vitest'
import type { Queue } from '../../src/queue/queue.ts'
import { type RunningRedis, startRedis } from '../fixtures/redis.ts'
import { openTestQueue, type QueueServer, serveQueue } from '../fixtures/server.ts'
import { startProxy, type TcpProxy } from '../fixtures/tcp-proxy.ts'
import { WAIT_MS } from './load.ts'

let redis: RunningRedis
let proxy: TcpProxy
let queue: Queue
let server: QueueServer

beforeAll(async () => {
  redis = await startRedis()
  proxy = await startProxy(redis.port)
  queue = await openTestQueue(`redis://127.0.0.1:${proxy.port}?wait_ms=${WAIT_MS}`)
  server = await serveQueue(queue, { handlers: { mail: { run: () => null } } })
})

const submit = () => server.post('/tasks', { type: 'mail' })

it('answers 503 with Retry-After while Redis is down, and 201 as soon as it is back', async () => {
  expect((await submit()).status).toBe(201)
  for (const fail of [proxy.cut, proxy.swallow]) {
    fail()
    const refused = await submit()
    expect(refused.status).toBe(503)
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
    expect(refused.body.code).toBe('engine_unavailable')
    expect(refused.body.detail).toContain(`127.0.0.1:${proxy.port}`)
    proxy.repair()
    expect((await submit()).status).toBe(201)
  }
})

it('holds a submission while Redis is down for less than the bound', async () => {
  proxy.cut()
  // What was on its way when it broke is refused at once: it may have arrived or not.
  expect((await submit()).status).toBe(503)
  const waiting = submit()
  const mended = new Promise((resolve) => setTimeout(resolve, WAIT_MS / 4)).then(() => proxy.repair())
  expect((await waiting).status).toBe(201)
  await mended
})

it('reports the outage in its metrics, beside those of the process', async () => {
  const metrics = async () => (await server.get('/metrics')).body
  expect(await metrics()).toMatch(/^xqueue_tasks_pending\{type="mail"\} \d+$/m)
  proxy.cut()
  const meanwhile = await metrics()
  expect(meanwhile).toContain('xqueue_health{check="storage"} 0')
  expect(meanwhile).toMatch(/^process_cpu_seconds_total \d/m)
  expect(meanwhile).not.toContain('xqueue_tasks_pending{')
  proxy.repair()
  await vi.waitFor(async () => expect(await metrics()).toContain('xqueue_health{check="storage"} 1'))
})
