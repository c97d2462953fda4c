import { beforeEach, expect, it } from 'vitest'
import type { Queue, QueueOptions } from '../../src/queue/queue.ts'
import { completeSpec } from '../../src/task/task.ts'
import { type RunningRedis, redisCli, startRedis } from '../fixtures/redis.ts'
import { openTestQueue } from '../fixtures/server.ts'

const START = 1_700_000_000_000
/** The call, the three values that it reads, and the renewed role of the maintainer. */
const COMMANDS_AT_REST = 3

let now: number
let redis: RunningRedis
let queue: Queue
const open = (options: Partial<QueueOptions> = {}) => openTestQueue(redis.url, { clock: () => now, ...options })

beforeEach(async () => {
  now = START
  redis = await startRedis()
  queue = await open()
  await queue.configureType('t', { declared: true })
})

/** The commands that a sweep makes Redis run, with itself. */
async function commandsOfSweep(): Promise<number> {
  redisCli(redis.port, 'CONFIG', 'RESETSTAT')
  await queue.sweep(1_000)
  const calls = redisCli(redis.port, 'INFO', 'commandstats').matchAll(/^cmdstat_(?!config)\S+?:calls=(\d+)/gm)
  return [...calls].reduce((sum, [, count]) => sum + Number(count), 0)
}

/** Sweeps until one has nothing to do; returns the number of sweeps. */
async function sweepToRest(most: number): Promise<number> {
  for (let sweeps = 1; sweeps <= most; sweeps++) if ((await commandsOfSweep()) <= COMMANDS_AT_REST) return sweeps
  throw new Error(`${most} sweeps did not come to rest`)
}

it('sweeps with three commands while nothing happens, and checks everything every ten seconds', async () => {
  await sweepToRest(3)
  now += 9_000
  expect(await commandsOfSweep()).toBe(COMMANDS_AT_REST)
  now += 1_000
  expect(await commandsOfSweep()).toBeGreaterThan(COMMANDS_AT_REST)
  expect(await commandsOfSweep()).toBe(COMMANDS_AT_REST)
})

it('rests among a thousand types after it has checked each of them', async () => {
  const types = Array.from({ length: 1_000 }, (_, index) => `type-${index}`)
  const worker = { id: 'w', host: 'h', pid: 1, types, concurrency: 1, startedAt: 0 }
  await queue.turn({ worker, want: 1 })
  const sweeps = await sweepToRest(100)
  expect(sweeps).toBeGreaterThan(10)
  now += 10_000
  expect(await sweepToRest(2)).toBe(2)
  await queue.submit([completeSpec({ type: 't', delayMs: 60_000 })])
  expect(await sweepToRest(100)).toBeGreaterThan(10)
})

it('checks each type after the last event before it rests, also if that came in the middle of a round', async () => {
  const types = Array.from({ length: 1_000 }, (_, index) => `type-${index}`)
  await queue.turn({ worker: { id: 'w', host: 'h', pid: 1, types, concurrency: 1, startedAt: 0 }, want: 1 })
  const change = () => queue.submit([completeSpec({ type: 't', delayMs: 60_000 })])
  await change()
  const whole = await sweepToRest(100)
  await change()
  const part = Math.floor(whole / 2)
  for (let sweeps = 0; sweeps < part; sweeps++) await queue.sweep(1_000)
  await change()
  expect(await sweepToRest(100)).toBeGreaterThan(whole)
})

it('does not rest while a task is ready or running', async () => {
  await sweepToRest(3)
  await queue.submit([completeSpec({ type: 't' })])
  await expect(sweepToRest(4)).rejects.toThrow('did not come to rest')
  const worker = { id: 'w', host: 'h', pid: 1, types: ['t'], concurrency: 1, startedAt: 0 }
  const { leases } = await queue.turn({ worker, want: 1 })
  await expect(sweepToRest(4)).rejects.toThrow('did not come to rest')
  const outcomes = leases.map(({ lease }) => ({ lease, outcome: { kind: 'success' as const, result: null } }))
  await queue.turn({ worker, want: 0, outcomes })
  await sweepToRest(3)
})

it('rests until a delayed task is due, also if another process has added an earlier one', async () => {
  const [later] = await queue.submit([completeSpec({ type: 't', delayMs: 5_000 })])
  await sweepToRest(3)
  const [earlier] = await (await open()).submit([completeSpec({ type: 't', delayMs: 2_000 })])
  const delays = async () => (await queue.get([later!.task.id, earlier!.task.id])).map((task) => task!.runAt - now)
  expect(await queue.sweep(1_000)).toMatchObject({ changed: 0, nextAt: START + 2_000 })
  now += 2_000
  expect(await queue.sweep(1_000)).toMatchObject({ changed: 1, nextAt: START + 5_000 })
  expect(await delays()).toEqual([3_000, 0])
})

it('ends the rest when another process adds a schedule that is due earlier', async () => {
  await sweepToRest(3)
  const other = await open()
  const { delayMs: _, runAt: __, idempotencyKey: ___, ...task } = completeSpec({ type: 't' })
  const timing = { everyMs: 3_000 }
  await other.schedules({ add: { id: 's', task, timing, catchUp: 'one', overlap: 'allow', paused: false } })
  now += 3_000
  expect(await queue.sweep(1_000)).toMatchObject({ changed: 1 })
})

it('deletes all removed tasks from the index before it says that nothing is left to do', async () => {
  const [first] = await queue.submit([completeSpec({ type: 't', priority: 1 })])
  for (let calls = 0; calls < 10; calls++) {
    const tasks = await queue.submit(Array.from({ length: 1_000 }, () => completeSpec({ type: 't' })))
    await queue.cancel({ ids: tasks.map(({ task }) => task.id) })
  }
  now += 1_000
  // The others are deleted behind it.
  await queue.cancel({ ids: [first!.task.id] })
  now += 7 * 86_400_000
  while ((await queue.sweep(1_000)).more);
  expect((await queue.stats()).counts).toMatchObject({ pending: 0, canceled: 0 })
  expect(redisCli(redis.port, 'XLEN', 'xq:{0}:index')).toBe('0')
})

it('deletes a hundred removed tasks that came one by one from the index at once', async () => {
  for (let calls = 0; calls < 100; calls++) await queue.submit([completeSpec({ type: 't' })])
  await queue.cancel({ filter: { type: 't', status: 'pending' } })
  const left = () => redisCli(redis.port, 'XLEN', 'xq:{0}:index')
  await queue.sweep(1_000)
  expect(left()).toBe('100')
  now += 7 * 86_400_000
  await queue.sweep(1_000)
  expect(left()).toBe('0')
})
