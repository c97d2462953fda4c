import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import { type Queue, TYPES_NAMED_MAX } from '../../src/queue/queue.ts'
import { RETRY_DEFAULTS } from '../../src/task/retry.ts'
import { completeSpec } from '../../src/task/task.ts'
import { removeAtExit } from '../fixtures/processes.ts'
import { type RunningRedis, redisCli, startRedis } from '../fixtures/redis.ts'
import { openTestQueue } from '../fixtures/server.ts'

const DAY_MS = 86_400_000
/** Sweeps through all types, on Redis some at a time. */
async function sweepAll(queue: Queue): Promise<void> {
  for (let sweeps = 0; sweeps < 50; sweeps++) await queue.sweep(1_000)
}

let redis: RunningRedis
beforeAll(async () => {
  redis = await startRedis()
})

it.each(['SQLite', 'Redis'])('keeps a type whose last task ends while types are forgotten, on %s', async (store) => {
  let now = Date.now()
  const url = store === 'Redis' ? `${redis.url}?prefix=last` : 'sqlite::memory:'
  const queue = await openQueue(url, { clock: () => now })
  const worker = { id: 'w', host: 'h', pid: 1, types: ['used'], concurrency: 1, startedAt: 0 }
  await queue.turn({ worker, want: 1 })
  const [submitted] = await queue.submit([completeSpec({ type: 'used' })])
  now += 2 * DAY_MS
  await sweepAll(queue)
  expect((await queue.types()).map(({ type }) => type)).toEqual(['used'])
  expect((await queue.stats()).counts.timeout).toBe(1)
  now += 2 * DAY_MS
  await sweepAll(queue)
  expect(await queue.get([submitted!.task.id])).toEqual([null])
  expect(await queue.types()).toEqual([])
  await queue.close()
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
    await sweepAll(one)
    await name(one, 'fresh', 1)
    expect((await names()).sort()).toEqual(['declared', 'fresh-0', 'late-0', 'used-0'])
    expect(await one.types({ names: ['worker-0-0-0', 'worker-1-0-0'] })).toEqual([])
    for (const queue of engines) await queue.close()
  },
  60_000,
)

it.each(['SQLite', 'Redis'])('counts types beyond the first 500 of a slot in the sum only, on %s', async (store) => {
  const now = Date.now()
  const url = store === 'Redis' ? `${redis.url}?prefix=slots` : 'sqlite::memory:'
  const queue = await openTestQueue(url, { clock: () => now })
  const types = Array.from({ length: 510 }, (_, index) => `t${index}`)
  const handler = { maxConcurrency: null, groupConcurrency: null, rate: null, payloadSchema: null, defaults: {} }
  await queue.declareHandlers(new Map(types.map((type) => [type, { ...handler, retry: RETRY_DEFAULTS }])))
  const submit = (some: readonly string[]) => queue.submit(some.map((type) => completeSpec({ type })))
  const submitted = async (type: string | null) => (await queue.history('2h', type)).slots.at(-1)!.submitted
  await submit(types)
  expect(await submitted(null)).toBe(510)
  const counts = await Promise.all(types.map(submitted))
  // Redis keeps one more if it writes the sum last.
  expect([500, 501]).toContain(counts.filter((count) => count === 1).length)
  const [kept, left] = [types[counts.indexOf(1)]!, types[counts.indexOf(0)]!]
  await submit([kept, left])
  expect([await submitted(null), await submitted(kept), await submitted(left)]).toEqual([512, 2, 0])
})

describe.each(['SQLite', 'Redis'])('types that were used once, on %s', (store) => {
  const COUNT = 200
  const used = Array.from({ length: COUNT }, (_, index) => `used-${index}`)
  const kept = ['configured', 'held', 'paused', 'waiting']
  let now: number
  let file: string
  let queue: Queue
  const run = async (types: string[]) => {
    const worker = { id: 'w', host: 'h', pid: 1, types, concurrency: COUNT, startedAt: 0 }
    const { leases } = await queue.turn({ worker, want: COUNT })
    const outcomes = leases.map(({ lease }) => ({ lease, outcome: { kind: 'success' as const, result: null } }))
    await queue.turn({ worker, want: 0, outcomes })
    return leases.map(({ task }) => task.type)
  }
  /** The names of types in keys, fields and rows. */
  const stored = () => {
    if (store === 'SQLite') {
      const database = new DatabaseSync(file, { readOnly: true })
      const rows = database.prepare('SELECT type FROM types UNION SELECT type FROM counts ORDER BY type').all()
      database.close()
      return rows.map(({ type }) => type)
    }
    const fields = (key: string) => redisCli(redis.port, 'HKEYS', `used:{0}:${key}`).split('\n')
    const keys = redisCli(redis.port, 'KEYS', 'used:{0}:*').split('\n')
    const texts = [...keys, ...['rules', 'lanes', 'counts', 'known'].flatMap(fields)]
    return [
      ...new Set(texts.flatMap((text) => /(used-\d+|configured|held|paused|waiting)(?=:\d$|$)/.exec(text)?.[1] ?? [])),
    ].sort()
  }

  beforeEach(async () => {
    now = Date.now()
    file = join(removeAtExit(mkdtempSync(join(tmpdir(), 'xqueue-used-types-'))), 'x.db')
    if (store === 'Redis') redisCli(redis.port, 'FLUSHALL')
    queue = await openTestQueue(store === 'Redis' ? `${redis.url}?prefix=used` : `sqlite:${file}`, { clock: () => now })
    const worker = { id: 'w', host: 'h', pid: 1, types: [...used, ...kept], concurrency: 1, startedAt: 0 }
    await queue.turn({ worker, want: 1 })
    await queue.submit([...used, 'waiting'].map((type) => completeSpec({ type, queueTimeoutMs: 0 })))
  })

  it('leave nothing when their tasks are removed, and can be used again', async () => {
    await queue.configureType('configured', { maxConcurrency: 5 })
    await queue.configureType('paused', { paused: true })
    await queue.configureType('held', { holdMs: 9 * DAY_MS })
    await queue.configureType('used-3', { holdMs: 1_000 })
    now += 1_000
    expect((await run(used)).sort()).toEqual([...used].sort())
    await queue.configureType('used-4', { holdMs: 1_000 })
    const waits = { id: 'waits', host: 'h', pid: 1, types: used.slice(0, 5), concurrency: 1, startedAt: 0 }
    await queue.turn({ worker: waits, want: 1, waitMs: 1 })
    await sweepAll(queue)
    expect(stored()).toHaveLength(COUNT + kept.length)
    now += 2 * DAY_MS
    await sweepAll(queue)
    now += DAY_MS / 24
    await sweepAll(queue)
    expect(stored()).toEqual(kept)
    expect(await run(['used-7'])).toEqual([])
    await queue.submit([completeSpec({ type: 'used-7' })])
    expect(await run(['used-7'])).toEqual(['used-7'])
  })

  it('stay while a worker serves them', async () => {
    await run(used)
    now += 2 * DAY_MS
    await run(used)
    await sweepAll(queue)
    expect(stored()).toEqual([...used, 'waiting'].sort())
  })
})
