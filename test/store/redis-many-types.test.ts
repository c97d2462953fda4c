import { beforeEach, expect, it } from 'vitest'
import type { Lease, Queue } from '../../src/queue/queue.ts'
import { completeSpec } from '../../src/task/task.ts'
import { announce, normalizeHandlers } from '../../src/worker/handlers.ts'
import { type RunningRedis, redisCli, startRedis } from '../fixtures/redis.ts'
import { openTestQueue } from '../fixtures/server.ts'

const COUNT = 9_000
const types = Array.from({ length: COUNT }, (_, index) => `type-${index}`)
const specs = types.map((type) => completeSpec({ type }))
const WORKER = { id: 'w', host: 'h', pid: 1, types, concurrency: 10, startedAt: 0 }

let redis: RunningRedis
let queue: Queue
beforeEach(async () => {
  redis = await startRedis()
  queue = await openTestQueue(redis.url, { pendingMax: 100_000 })
})

/** The commands that a call makes Redis run, by name; steps are `fcall`, the commands in them count too. */
async function commandsOf(call: () => Promise<unknown>): Promise<Map<string, number>> {
  redisCli(redis.port, 'CONFIG', 'RESETSTAT')
  await call()
  const stats = redisCli(redis.port, 'INFO', 'commandstats')
  return new Map([...stats.matchAll(/cmdstat_(\S+?):calls=(\d+)/g)].map(([, name, calls]) => [name!, Number(calls)]))
}
/** Without those of statistics, which are written at times of their own. */
const OF_STATISTICS = ['hincrby', 'expire', 'pexpire']
const sum = (commands: Map<string, number>) =>
  [...commands].reduce((all, [name, calls]) => all + (OF_STATISTICS.includes(name) ? 0 : calls), 0)

function declare(): Promise<void> {
  const handlers = Object.fromEntries(types.map((type) => [type, { concurrency: 5, run: () => null }]))
  return announce(queue, normalizeHandlers(handlers))
}

const succeed = (leases: readonly Lease[]) =>
  queue.turn({
    worker: WORKER,
    want: 0,
    outcomes: leases.map(({ lease }) => ({ lease, outcome: { kind: 'success', result: null } })),
  })

it('declares many types, and hands out their tasks, with a constant number of commands', async () => {
  expect(sum(await commandsOf(declare))).toBeLessThan(500)
  expect(sum(await commandsOf(() => queue.turn({ worker: WORKER, want: 10 })))).toBeLessThan(100)
  const idle = await commandsOf(() => queue.turn({ worker: WORKER, want: 10 }))
  expect(sum(idle)).toBeLessThan(50)
  const submitted = await commandsOf(() => queue.submit(specs))
  expect(submitted.get('hkeys') ?? 0).toBeLessThan(10)
  let leases: Lease[] = []
  const busy = await commandsOf(async () => {
    leases = (await queue.turn({ worker: WORKER, want: 10 })).leases
  })
  expect(leases.map(({ task }) => task.type)).toEqual(types.slice(0, 10))
  expect(sum(busy)).toBeLessThan(300)
})

it('reads and changes named limits without reading the types', async () => {
  await declare()
  await queue.configureLimit('gpu', { max: 5 })
  const commands = await commandsOf(async () => {
    expect(await queue.limits({ names: ['gpu'], holders: true })).toMatchObject([{ name: 'gpu', max: 5 }])
    expect(await queue.limits()).toHaveLength(1)
    await queue.configureLimit('gpu', { max: 6 })
  })
  expect(sum(commands)).toBeLessThan(60)
})

it('hands out tasks of many types by priority, and then by age over all types', async () => {
  await declare()
  const order = [0, 1, 0, 0, 2, 1, 0]
  for (const index of order) await queue.submit([completeSpec({ type: types[index]! })])
  await queue.submit([completeSpec({ type: types[2]!, priority: 3 })])
  const claimed: string[] = []
  for (const want of [3, 1, 2, 9]) {
    claimed.push(...(await queue.turn({ worker: WORKER, want })).leases.map(({ task }) => task.type))
  }
  expect(claimed).toEqual([2, ...order].map((index) => types[index]))
})

it('skips types at their limit or paused among many, until they may start again', async () => {
  await queue.declareHandlers(new Map())
  for (const type of types.slice(0, 70)) await queue.configureType(type, { declared: true, maxConcurrency: 1 })
  const worker = { ...WORKER, types: types.slice(0, 70) }
  await queue.submit([0, 0, 1, 1, 2].map((index) => completeSpec({ type: types[index]! })))
  await queue.configureType(types[1]!, { paused: true })
  const claim = async () => (await queue.turn({ worker, want: 9 })).leases
  const first = await claim()
  expect(first.map(({ task }) => task.type)).toEqual([types[0], types[2]])
  expect(await claim()).toEqual([])
  await succeed(first)
  expect((await claim()).map(({ task }) => task.type)).toEqual([types[0]])
  await queue.configureType(types[1]!, { paused: false })
  expect((await claim()).map(({ task }) => task.type)).toEqual([types[1]])
})

it('checks in a sweep which types may start again, in case the previous version has changed their rules', async () => {
  const few = types.slice(0, 70)
  for (const type of few) await queue.configureType(type, { declared: true, maxConcurrency: 1 })
  await queue.submit([0, 0, 1].map((index) => completeSpec({ type: few[index]! })))
  await queue.configureType(few[1]!, { paused: true })
  const claim = async () => (await queue.turn({ worker: { ...WORKER, types: few }, want: 9 })).leases
  expect(await claim()).toHaveLength(1)
  expect(await claim()).toEqual([])
  const parked = () => redisCli(redis.port, 'ZRANGE', 'xq:{0}:parked', '0', '-1').split('\n').sort()
  const sweepAll = async () => {
    for (let sweeps = 0; sweeps < 5; sweeps++) await queue.sweep(1_000)
  }
  await sweepAll()
  expect(parked()).toEqual(few.slice(0, 2))
  const rules = (type: string, change: (text: string) => string) =>
    redisCli(redis.port, 'HSET', 'xq:{0}:rules', type, change(redisCli(redis.port, 'HGET', 'xq:{0}:rules', type)))
  rules(few[0]!, (text) => text.replace(',1,', ',2,'))
  rules(few[1]!, (text) => text.replace('1', '0'))
  await sweepAll()
  expect((await claim()).map(({ task }) => task.type)).toEqual(few.slice(0, 2))
})

it('returns a task whose lease has expired among many types in time, although another of its type was canceled', async () => {
  await declare()
  let now = Date.now()
  const own = await openTestQueue(redis.url, { clock: () => now })
  const type = types[5]!
  const [lost, canceled] = await own.submit([1, 2].map((payload) => completeSpec({ type, payload })))
  await own.turn({ worker: WORKER, want: 1, leaseMs: 1_000 })
  await own.turn({ worker: WORKER, want: 1, leaseMs: 60_000 })
  await own.cancel({ ids: [canceled!.task.id] })
  now += 1_000
  await own.sweep(1_000)
  const found = await own.get([lost!.task.id, canceled!.task.id])
  expect(found.map((task) => task!.status)).toEqual(['pending', 'processing'])
})

it('wakes a turn that waits for one of many types', async () => {
  await queue.configureType(types[5]!, { declared: true })
  const waiting = queue.turn({ worker: WORKER, want: 1, waitMs: 60_000 })
  await expect.poll(() => redisCli(redis.port, 'EXISTS', 'xq:{0}:waiting_typesets')).toBe('1')
  await queue.submit([completeSpec({ type: types[5]! })])
  expect((await waiting).leases.map(({ task }) => task.type)).toEqual([types[5]])
})

it('hands out tasks of named groups among many types', async () => {
  await declare()
  const last = types.at(-1)!
  await queue.submit([types[5]!, last].flatMap((type) => ['a', 'b'].map((group) => completeSpec({ type, group }))))
  const claim = async (groups: string[]) => (await queue.turn({ worker: WORKER, want: 9, groups })).leases
  expect((await claim(['b'])).map(({ task }) => [task.type, task.group])).toEqual([
    [types[5], 'b'],
    [last, 'b'],
  ])
  expect(await claim(['b', 'c'])).toEqual([])
})

it('costs Redis little while many used types are idle', async () => {
  await declare()
  await queue.submit(types.map((type) => completeSpec({ type, queueTimeout: 60_000 } as never)))
  for (let left = COUNT; left > 0; ) {
    const { leases } = await queue.turn({ worker: WORKER, want: 500 })
    await succeed(leases)
    left -= leases.length
  }
  await queue.sweep(1_000)
  expect(sum(await commandsOf(() => queue.sweep(1_000)))).toBeLessThan(2_000)
})

it('counts waiting tasks for the cap without reading each of many types', async () => {
  await declare()
  await queue.submit(specs)
  const commands = await commandsOf(() => queue.submit(specs.slice(0, 1)))
  expect(sum(commands)).toBeLessThan(50)
})

it('lists many types in several steps', async () => {
  await declare()
  await queue.submit(specs)
  let infos: Awaited<ReturnType<Queue['types']>> = []
  const commands = await commandsOf(async () => {
    infos = await queue.types()
  })
  expect(infos.map(({ pending }) => pending)).toEqual(types.map(() => 1))
  expect(commands.get('fcall')).toBeGreaterThan(COUNT / 1_000)
})
