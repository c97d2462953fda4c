import { type ChildProcess, spawn } from 'node:child_process'
import { join } from 'node:path'
import { expect, it, vi } from 'vitest'
import type { Lease } from '../../src/queue/queue.ts'
import { completeSpec } from '../../src/task/task.ts'
import { closeAfterwards } from '../fixtures/closing.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { startRedis } from '../fixtures/redis.ts'
import { openTestQueue } from '../fixtures/server.ts'

/** A worker process that stops for longer than its lease (SIGSTOP). `test/clients/` has the same over HTTP. */

const LEASE_MS = 5_000
const NEXT = { id: 'next', host: 'h', pid: 1, types: ['watch', 'isolated'], concurrency: 1, startedAt: 0 }
const PATIENCE = { timeout: 20_000, interval: 10 }

async function startWorker(url: string): Promise<{ child: ChildProcess; log: () => string }> {
  const file = join(import.meta.dirname, 'frozen-worker.ts')
  const child = spawn(process.execPath, [file, url, String(LEASE_MS)], { stdio: ['ignore', 'pipe', 'inherit'] })
  closeAfterwards(() => child.kill('SIGKILL'))
  let log = ''
  child.stdout!.on('data', (chunk) => {
    log += chunk
  })
  await vi.waitFor(() => expect(log).toContain('started'), PATIENCE)
  return { child, log: () => log }
}

const URLS = {
  SQLite: async () => `sqlite:${join(temporaryFolder(), 'x.db')}`,
  Redis: async () => (await startRedis()).url,
}

it.each([
  ['watch', 'SQLite'],
  ['isolated', 'SQLite'],
] as const)(
  'after it was frozen, a handler (%s, on %s) knows that its lease is lost, and its signal aborts',
  async (type, store) => {
    const url = await URLS[store]()
    const queue = await openTestQueue(url, { leaseMs: LEASE_MS })
    const { child, log } = await startWorker(url)
    const [submitted] = await queue.submit([completeSpec({ type, maxRetry: 0 })])
    // Its lease was renewed, so everything of the worker runs.
    await vi.waitFor(async () => {
      const [info] = await queue.types({ names: [type], holders: true })
      const [holder] = info!.holders
      expect(holder!.expiresAt - holder!.since).toBeGreaterThan(LEASE_MS)
    }, PATIENCE)
    // It is in the middle of its looks.
    await vi.waitFor(() => expect(log().split('looked').length).toBeGreaterThan(20), PATIENCE)
    child.kill('SIGSTOP')
    const next = await vi.waitFor(async (): Promise<Lease> => {
      await queue.sweep(100)
      const { leases } = await queue.turn({ worker: NEXT, want: 1, leaseMs: 60_000 })
      expect(leases).toHaveLength(1)
      return leases[0]!
    }, PATIENCE)
    child.kill('SIGCONT')
    await vi.waitFor(() => expect(log()).toContain('aborted after'), PATIENCE)
    const [, fence, looks] = /.*woke with fence (\d+)\n(.*?)aborted after/s.exec(log())!
    expect(looks).not.toContain('looked: true')
    expect(next.task).toMatchObject({ id: submitted!.task.id, deliveries: Number(fence) + 1 })
    const outcome = { kind: 'success', result: 'next' } as const
    const { settled } = await queue.turn({ worker: NEXT, want: 0, outcomes: [{ lease: next.lease, outcome }] })
    expect(settled).toEqual([{ accepted: true, status: 'success' }])
  },
)
