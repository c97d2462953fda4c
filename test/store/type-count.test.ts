import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeAll, expect, it } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import { type Queue, TYPES_NAMED_MAX } from '../../src/queue/queue.ts'
import { completeSpec } from '../../src/task/task.ts'
import { removeAtExit } from '../fixtures/processes.ts'
import { type RunningRedis, startRedis } from '../fixtures/redis.ts'

const DAY_MS = 86_400_000
let redis: RunningRedis
beforeAll(async () => {
  redis = await startRedis()
})

it.each(['SQLite', 'Redis'])(
  'creates a bounded number of types for workers of all processes, on %s',
  async (store) => {
    const folder = removeAtExit(mkdtempSync(join(tmpdir(), 'xqueue-named-types-')))
    const url = store === 'Redis' ? `${redis.url}?prefix=named` : `sqlite:${join(folder, 'x.db')}`
    let now = Date.now()
    const open = () => openQueue(url, { clock: () => now })
    const engines = [await open(), await open()]
    const [one] = engines as [Queue]
    const name = (queue: Queue, from: string, count: number) => {
      const types = Array.from({ length: count }, (_, index) => `${from}-${index}`)
      return queue.turn({ worker: { id: from, host: 'h', pid: 1, types, concurrency: 1, startedAt: 0 }, want: 1 })
    }
    const names = async () => (await one.types()).map(({ type }) => type)
    await one.configureType('declared', { declared: true })
    await name(one, 'used', 1)
    await one.submit([completeSpec({ type: 'used-0' })])
    const both = Array.from({ length: 7 }, (_, n) => engines.map((queue, at) => name(queue, `worker-${at}-${n}`, 100)))
    await Promise.all(both.flat())
    expect(await names()).toHaveLength(TYPES_NAMED_MAX + 1)
    await name(one, 'late', 1)
    expect(await names()).not.toContain('late-0')
    await expect(one.submit([completeSpec({ type: 'late-0' })])).rejects.toMatchObject({ code: 'unknown_type' })

    await one.configureType('late-0', { declared: true })
    await one.submit([completeSpec({ type: 'late-0' })])
    const late = await name(one, 'late', 1)
    expect(late.leases.map(({ task }) => task.type)).toEqual(['late-0'])

    now += 2 * DAY_MS
    await name(one, 'fresh', 1)
    expect((await names()).sort()).toEqual(['declared', 'fresh-0', 'late-0', 'used-0'])
    expect(await one.types({ names: ['worker-0-0-0', 'worker-1-0-0'] })).toEqual([])
    for (const queue of engines) await queue.close()
  },
  60_000,
)
