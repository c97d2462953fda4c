import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { beforeAll, expect, it } from 'vitest'
import type { HandlerSettings, Queue, QueueOptions, Rate } from '../../src/queue/queue.ts'
import { RETRY_DEFAULTS } from '../../src/task/retry.ts'
import { completeSpec, type TaskSpec } from '../../src/task/task.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { type RunningRedis, redisCli, startRedis } from '../fixtures/redis.ts'
import { openTestQueue } from '../fixtures/server.ts'

/** When all tasks and workers are gone, a store keeps its types, the newest events and its positions: nothing grows. */

const DAY_MS = 86_400_000
const LARGE = 'x'.repeat(5_000)
const workerOf = (round: number, id: string) => ({
  id: `${id}-${round}`,
  host: 'h',
  pid: 1,
  types: ['t', 'u'],
  concurrency: 100,
  startedAt: 0,
})

class Life {
  now = 1_700_000_000_000
  readonly options: Partial<QueueOptions> = {
    clock: () => this.now,
    random: () => 0,
    leaseMs: 1_000,
    retention: { ageMs: DAY_MS, countMax: 100_000 },
  }
  queue!: Queue

  /** Everything that tasks can go through, and then their removal. */
  async round(round: number): Promise<void> {
    const limits = { maxConcurrency: 40, groupConcurrency: 2, rate: { max: 1_000, perMs: 10_000 } as Rate | null }
    const handler = { ...limits, retry: RETRY_DEFAULTS, payloadSchema: null, defaults: {} }
    await this.queue.declareHandlers(
      new Map<string, HandlerSettings>([
        ['t', handler],
        ['u', { ...handler, rate: null, groupTurns: 'time' }],
      ]),
    )
    const first = await this.#submit([
      ...Array.from({ length: 30 }, (_, index) => ({
        group: index % 3 === 0 ? null : `g${round}-${index % 7}`,
        idempotencyKey: `k${round}-${index}`,
        batch: `b${round}`,
        priority: index % 2,
        tags: { a: LARGE.slice(0, 100) },
        payload: LARGE,
      })),
      ...Array.from({ length: 5 }, () => ({ delayMs: 500, maxRetry: 0 })),
    ])
    // Found by a claim when they have waited too long.
    await this.#submit([
      { queueTimeoutMs: 100, priority: 9 },
      { queueTimeoutMs: 100, priority: 9, group: 'late' },
    ])
    this.now += 100
    await this.#work(round, 'finds', 1, () => ({ kind: 'success', result: null }))
    await this.#submit(
      first.slice(0, 10).map((id) => ({ type: 'u', after: [id], onFailure: 'run' as const, group: 'x' })),
    )
    await this.#submit(first.slice(10, 20).map((id) => ({ type: 'u', after: [id] })))
    // Left alone, lost, canceled, retried; the others end in one way or another.
    await this.queue.cancel({ ids: first.slice(25, 30) })
    await this.#work(round, 'dies', 5, () => null)
    await this.queue.cancel({ ids: first.slice(0, 2) })
    // A round is a multiple of ten seconds long, so that all rounds fall alike into the slots of statistics.
    this.now += 10_000
    await this.#sweep()
    await this.#work(round, 'fails', 20, () => ({ kind: 'failure', error: LARGE, retry: false, delayMs: null }))
    await this.queue.retry({ filter: { type: 't', status: 'failed' } })
    for (let step = 0; step < 20; step++) {
      this.now += 1_000
      await this.#work(round, 'works', 20, () => ({ kind: 'success', result: LARGE }))
      await this.#sweep()
    }
    await this.queue.countCalls(`key-${round}`, { max: 10, perMs: 1_000 }, 3)
    const { counts } = await this.queue.stats()
    expect({ round, ...counts }).toMatchObject({ round, pending: 0, processing: 0 })
    this.now += 60 * DAY_MS
    await this.queue.countCalls('a key', { max: 10, perMs: 1_000 }, 1)
    for (let step = 0; step < 30; step++) await this.#sweep()
  }

  async #submit(specs: Partial<TaskSpec>[]): Promise<string[]> {
    const submitted = await this.queue.submit(specs.map((spec) => completeSpec({ type: 't', ...spec })))
    return submitted.map(({ task }) => task.id)
  }

  async #work(round: number, id: string, want: number, outcomeOf: () => unknown): Promise<void> {
    const worker = workerOf(round, id)
    const { leases } = await this.queue.turn({ worker, want })
    await this.queue.turn({ worker, want: 0, renewals: leases.map(({ lease }) => ({ lease, progress: 50 })) })
    const outcomes = leases.flatMap(({ lease }) => {
      const outcome = outcomeOf()
      return outcome === null ? [] : [{ lease, outcome: outcome as never }]
    })
    await this.queue.turn({ worker, want: 0, outcomes })
    // Its description is written again, with the number of its attempts.
    await this.queue.turn({ worker: { ...worker, types: ['t'] }, want: 0 })
  }

  async #sweep(): Promise<void> {
    while ((await this.queue.sweep(1_000)).more);
  }
}

it('SQLite keeps no rows of what is gone', async () => {
  const life = new Life()
  const path = join(temporaryFolder(), 'x.db')
  life.queue = await openTestQueue(`sqlite:${path}`, life.options)
  const rows = () => {
    const db = new DatabaseSync(path, { readOnly: true })
    const tables = db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").all() as { name: string }[]
    const counted = tables.map(({ name }) => [name, db.prepare(`SELECT count(*) AS n FROM ${name}`).get()!.n])
    db.close()
    return Object.fromEntries(counted.filter(([, n]) => n !== 0))
  }
  await life.round(1)
  const once = rows()
  await life.round(2)
  await life.round(3)
  expect(rows()).toEqual(once)
  // Figures of the last days, starts in the window of a rate, the newest event, and the time of the last removal.
  expect(Object.keys(once).sort()).toEqual(['counts', 'events', 'history', 'rate_log', 'rates', 'removals', 'types'])
})

/** Types with their lanes and statistics, positions and clocks: none grows with tasks or workers. */
const KEPT_ON_REDIS = [
  ...['awaited:looked_at', 'back_off', 'birth', 'clock', 'counts', 'ended_until', 'events', 'events:birth'],
  ...['events:bytes', 'events:clock', 'group_turns', 'index:tidied', 'known', 'lanes', 'lone_from', 'rest'],
  ...['rested:t:0', 'rested:t:1', 'rotation_clock:t:0', 'rotation_clock:t:1', 'rounds', 'rules'],
  // The consumer `-` has the entries that were given back.
  ...['s:t:1 consumers', 'started', 'totals'],
]

let redis: RunningRedis
beforeAll(async () => {
  redis = await startRedis()
})

it('Redis keeps no keys of what is gone', async () => {
  const life = new Life()
  life.queue = await openTestQueue(redis.url, life.options)
  const sizes = () => {
    const cli = (...args: string[]) => redisCli(redis.port, ...args).trim()
    // Counts of ends since the last write of the figures, by type, have no time to live.
    const keys = cli('KEYS', '*')
      .split('\n')
      .filter((key) => cli('PTTL', key) === '-1' && !key.endsWith('history_ends'))
    const size = { string: 'STRLEN', hash: 'HLEN', set: 'SCARD', zset: 'ZCARD', stream: 'XLEN', list: 'LLEN' }
    const named = (key: string, what: string) => `${key.replace(/^.*?}:/, '')}${what}`
    const sizes = keys.map((key) => [named(key, ''), Number(cli(size[cli('TYPE', key) as 'hash'], key))])
    const lanes = keys.filter((key) => key.includes(':s:'))
    const consumers = lanes.map((key) => [
      named(key, ' consumers'),
      cli('XINFO', 'CONSUMERS', key, 'workers')
        .split('\n')
        .filter((line) => line === 'name').length,
    ])
    return Object.fromEntries([...sizes, ...consumers].filter(([, n]) => n !== 0).sort())
  }
  await life.round(1)
  const once = sizes()
  await life.round(2)
  await life.round(3)
  expect(sizes()).toEqual(once)
  expect(Object.keys(once)).toEqual(KEPT_ON_REDIS)
})
