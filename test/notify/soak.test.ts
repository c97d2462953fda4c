import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import mqtt from 'mqtt'
import { afterEach, expect, it, vi } from 'vitest'
import { isLong } from '../fixtures/long.ts'
import { Mosquitto } from '../fixtures/mosquitto.ts'
import { event, MANY_MS } from '../fixtures/mqtt-listener.ts'

const BATCH = 1_000
const [FIRST, MORE] = isLong ? [15, 45] : [8, 16]
/**
 * The memory that 16,000 tasks and 48,000 changes may retain: less than 100 bytes per change, and nightly per task.
 * A leak of events is 18 MB.
 */
const LEFT_BYTES_MAX = 4 * 1024 * 1024

/** The process alone needs about half of it. */
const SMALL_HEAP_MB = 100

// 60,000 tasks, on a machine that runs other tests as well.
vi.setConfig({ testTimeout: 180_000 })

const closing: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

async function startProcess(flags: Record<string, string>, execArgv: string[] = []) {
  const folder = mkdtempSync(join(tmpdir(), 'xqueue-soak-'))
  const settings = { engine: `sqlite:${join(folder, 'x.db')}`, concurrency: '100', ...flags }
  const child = fork(join(import.meta.dirname, 'soak-process.ts'), [JSON.stringify(settings)], {
    execArgv: ['--expose-gc', ...execArgv],
  })
  closing.push(async () => {
    child.kill('SIGKILL')
    await once(child, 'exit')
    rmSync(folder, { recursive: true })
  })
  const { address, mqtt: url } = (await said(child)) as { address: string; mqtt: string | null }
  return { child, address, url }
}

async function said(child: ChildProcess): Promise<unknown> {
  return (await once(child, 'message'))[0]
}

/** Counts what succeeds, and forgets it. */
async function counted(url: string): Promise<{ succeeded: number }> {
  const count = { succeeded: 0 }
  const client = mqtt.connect(url, { protocolVersion: 4 })
  closing.push(() => client.endAsync(true))
  await event(client, 'connect')
  client.on('message', (topic) => {
    if (topic.includes('/success/')) count.succeeded += 1
  })
  await client.subscribeAsync('xqueue/#')
  return count
}

/** What the heap holds after so many more batches have succeeded. */
async function heapAfter(child: ChildProcess, address: string, count: { succeeded: number }, batches: number) {
  const tasks = Array.from({ length: BATCH }, () => ({ type: 'quick', payload: { text: 'x'.repeat(100) } }))
  for (let batch = 0; batch < batches; batch++) {
    const before = count.succeeded
    const body = JSON.stringify({ tasks })
    const headers = { 'Content-Type': 'application/json' }
    await fetch(`${address}/api/v1/tasks/batch`, { method: 'POST', body, headers })
    await vi.waitFor(() => expect(count.succeeded - before).toBeGreaterThanOrEqual(BATCH), {
      timeout: MANY_MS,
      interval: 2,
    })
  }
  return heapOf(child)
}

async function heapOf(child: ChildProcess): Promise<number> {
  child.send('heap')
  return (await said(child)) as number
}

/** A sweep or a page of events may be under way, which holds some megabytes until it ends; a leak stays. */
async function expectHeapReturnsTo(first: number, child: ChildProcess): Promise<void> {
  await vi.waitFor(async () => expect((await heapOf(child)) - first).toBeLessThan(LEFT_BYTES_MAX), {
    timeout: MANY_MS,
    interval: 500,
  })
}

it.each([
  ['that keeps few finished tasks', '500'],
  ['that keeps all', '1000000'],
])('keeps no memory for published changes, in a process %s', async (_name, retention) => {
  const { child, address, url } = await startProcess({ 'retention-count': retention })
  const count = await counted(url!)
  const first = await heapAfter(child, address, count, FIRST)
  await heapAfter(child, address, count, MORE)
  await expectHeapReturnsTo(first, child)
})

it('keeps no memory for messages that an external broker has acknowledged', async () => {
  const broker = new Mosquitto()
  await broker.start()
  closing.push(() => broker.remove())
  const count = await counted(broker.url)
  const { child, address } = await startProcess({ mqtt: broker.url })
  const first = await heapAfter(child, address, count, FIRST)
  await heapAfter(child, address, count, MORE)
  await expectHeapReturnsTo(first, child)
})

it('sends the states of a thousand tasks to 50 simultaneous subscribers, with a small heap', async () => {
  const flags = { mqtt: 'embedded', engine: 'sqlite::memory:' }
  const { child, address, url } = await startProcess(flags, [`--max-old-space-size=${SMALL_HEAP_MB}`])
  const tasks = Array.from({ length: BATCH }, () => ({ type: 'quick', payload: 'x'.repeat(1_000) }))
  const headers = { 'Content-Type': 'application/json' }
  await fetch(`${address}/api/v1/tasks/batch`, { method: 'POST', body: JSON.stringify({ tasks }), headers })
  const ended = async () => {
    const stats = (await (await fetch(`${address}/api/v1/stats`)).json()) as { success_tasks: number }
    expect(stats.success_tasks).toBe(BATCH)
  }
  await vi.waitFor(ended, { timeout: MANY_MS })
  const clients = await Promise.all(
    Array.from({ length: 50 }, async () => {
      const client = mqtt.connect(url!, { protocolVersion: 4, reconnectPeriod: 0 })
      closing.push(() => client.endAsync(true))
      await event(client, 'connect')
      return client
    }),
  )
  const states = clients.map((client) => {
    const seen = new Set<string>()
    client.on('message', (topic, payload) => {
      if (topic.startsWith('xqueue/tasks/') && payload.length > 1_000) seen.add(topic)
    })
    return seen
  })
  await Promise.all(clients.map((client) => client.subscribeAsync('xqueue/#', { qos: 1 })))
  await vi.waitFor(() => expect(states.map(({ size }) => size)).toEqual(states.map(() => BATCH)), { timeout: MANY_MS })
  expect(child.exitCode).toBe(null)
})
