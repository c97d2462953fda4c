import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect, it, vi } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import type { Queue } from '../../src/queue/queue.ts'
import { tickKey } from '../../src/task/schedule.ts'
import { completeSpec } from '../../src/task/task.ts'
import { endAtExit } from '../fixtures/processes.ts'
import { startRedis } from '../fixtures/redis.ts'

const SECOND = 1_000
const PROCESSES = 3
const SCHEDULES = 20
/** Before one of them is killed, and after it. */
const TICKS = 3

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const clean of cleanups.splice(0).reverse()) await clean()
})

it.each([
  ['a SQLite file', sqliteFile],
  ['Redis', redis],
])(
  'creates exactly one task for each tick with three processes on %s, one of them killed',
  async (_, start) => {
    const url = await start()
    const queue = await openQueue(url)
    cleanups.push(() => queue.close())
    await queue.configureType('t', { declared: true })
    const { delayMs: _d, runAt: _r, idempotencyKey: _k, ...task } = completeSpec({ type: 't', queueTimeoutMs: 0 })
    const rest = { timing: { everyMs: SECOND }, catchUp: 'all', overlap: 'allow', paused: false } as const
    const firsts = new Map<string, number>()
    for (let n = 0; n < SCHEDULES; n++) {
      const id = `s${n}`
      const schedules = await queue.schedules({ add: { id, task, ...rest } })
      firsts.set(id, schedules.find((schedule) => schedule.id === id)!.nextAt!)
    }
    // One after the other: on Redis the first is the one that sweeps until it is killed.
    const children: ChildProcess[] = []
    while (children.length < PROCESSES) children.push(await sweeping(url))
    await ticked(queue, Math.max(...firsts.values()) + TICKS * SECOND)
    await ended(children[0]!)
    await ticked(queue, Date.now() + TICKS * SECOND)
    for (const child of children.slice(1)) await ended(child)

    const expected: string[] = []
    for (const { id, nextAt } of await queue.schedules()) {
      for (let at = firsts.get(id)!; at < nextAt!; at += SECOND) expected.push(tickKey(id, at))
    }
    const { tasks } = await queue.list({ limit: 1_000 })
    expect(expected.length).toBeGreaterThanOrEqual(SCHEDULES * TICKS * 2)
    expect(tasks.map(({ idempotencyKey }) => idempotencyKey).sort()).toEqual(expected.sort())
  },
  60_000,
)

/** Until every schedule has made its task of a time. */
async function ticked(queue: Queue, at: number): Promise<void> {
  const seen = async () => {
    for (const { lastAt } of await queue.schedules()) expect(lastAt).toBeGreaterThanOrEqual(at - SECOND)
  }
  await vi.waitFor(seen, { timeout: 30_000, interval: 50 })
}

async function sweeping(url: string): Promise<ChildProcess> {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'schedule-process.ts'), url], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  endAtExit(child)
  cleanups.push(() => ended(child))
  await once(child.stdout!, 'data')
  return child
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGKILL')
  await once(child, 'exit')
}

function sqliteFile(): string {
  const folder = mkdtempSync(join(tmpdir(), 'xqueue-schedules-'))
  cleanups.push(() => rmSync(folder, { recursive: true }))
  return `sqlite:${join(folder, 'x.db')}`
}

async function redis(): Promise<string> {
  const server = await startRedis()
  cleanups.push(() => server.stop())
  return server.url
}
