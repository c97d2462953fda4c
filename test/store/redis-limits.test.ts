import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import type { Lease, Queue } from '../../src/queue/queue.ts'
import { completeSpec, type TaskSpec } from '../../src/task/task.ts'
import { endAtExit } from '../fixtures/processes.ts'
import { type RunningRedis, redisCli, startRedis } from '../fixtures/redis.ts'
import { type RunningCluster, startCluster } from '../fixtures/redis-cluster.ts'
import { openTestQueue } from '../fixtures/server.ts'

const WORKER = { id: 'w', host: 'h', pid: 1, types: ['t'], concurrency: 100, startedAt: 0 }
const OF_LIMITS =
  /:(using|limit_\w+|held_back|group_lanes|at_limit|held|rotation|unserved|crowded|group_queue|grouped)(:|$)/

let redis: RunningRedis
let queue: Queue
beforeEach(async () => {
  redis = await startRedis()
  queue = await openTestQueue(redis.url)
  await queue.configureType('t', { declared: true })
})

const cli = (...args: string[]) => redisCli(redis.port, ...args)
const submit = (specs: readonly Partial<TaskSpec>[]) =>
  queue.submit(specs.map((spec) => completeSpec({ type: 't', ...spec })))
const claim = async (want = 9) => (await queue.turn({ worker: WORKER, want })).leases
const succeed = (leases: readonly Lease[]) => {
  const outcomes = leases.map(({ lease }) => ({ lease, outcome: { kind: 'success', result: null } as const }))
  return queue.turn({ worker: WORKER, want: 0, outcomes })
}
const payloads = (leases: readonly Lease[]) => leases.map(({ task }) => task.payload).join(' ')

/** The number of commands that a call makes Redis run, without those of statistics, which have their own time. */
async function commandsOf(call: () => Promise<unknown>): Promise<number> {
  cli('CONFIG', 'RESETSTAT')
  await call()
  const stats = [...cli('INFO', 'commandstats').matchAll(/cmdstat_(\S+?):calls=(\d+)/g)]
  const counted = stats.filter(([, name]) => !/config|info|fcall|hincrby|expire|ping/.test(name!))
  return counted.reduce((sum, [, , calls]) => sum + Number(calls), 0)
}

describe('named limits on Redis', () => {
  it('keep nothing of keys that no task uses any more, except logs of rates that expire', async () => {
    await queue.configureLimit('tenant/*', { max: 1, rate: { max: 100, perMs: 1_000 } })
    const keys = Array.from({ length: 300 }, (_, index) => ({ [`tenant/${index}`]: 1 }))
    const specs = keys.flatMap((uses, index) => [{ uses }, { uses, group: `g${index}` }])
    for (const spec of specs) await submit([spec])
    for (let ended = 0; ended < specs.length; ) {
      const leases = await claim(100)
      expect(leases.length).toBeGreaterThan(0)
      await succeed(leases)
      ended += leases.length
    }
    for (let sweeps = 0; sweeps < 3; sweeps++) await queue.sweep(1_000)
    const left = cli('KEYS', '*')
      .split('\n')
      .filter((key) => OF_LIMITS.test(key))
    const logs = left.filter((key) => key.includes(':limit_starts:'))
    expect(left.filter((key) => !logs.includes(key))).toEqual([])
    expect(logs).toHaveLength(300)
    for (const key of logs.slice(0, 20)) expect(Number(cli('PTTL', key))).toBeGreaterThan(0)
    expect(cli('HLEN', 'xq:{0}:limits:now')).toBe('0')
    expect(cli('EXISTS', 'xq:{0}:limits:parked')).toBe('0')
  })

  it('keep nothing of tasks that were canceled while they waited for them', async () => {
    await queue.configureLimit('gpu', { max: 1 })
    const specs = ['a', 'b', null].flatMap((group) => [1, 2, 3].map(() => ({ group, uses: { gpu: 1 } })))
    await submit(specs)
    const leases = await claim()
    expect(leases).toHaveLength(1)
    await queue.cancel({ filter: { type: 't', status: 'pending' } })
    await succeed(leases)
    const left = cli('KEYS', '*').split('\n')
    expect(left.filter((key) => OF_LIMITS.test(key))).toEqual([])
    expect(await queue.limits({ names: ['gpu'] })).toMatchObject([{ inUse: 0, waiting: 0 }])
  })

  it('cost a claim the same however many tasks it starts, with limits or beside a lane that waits', async () => {
    await queue.configureLimit('gpu', { max: 1_000 })
    await queue.configureLimit('net', { max: 1 })
    const costs: number[] = []
    const costOf = async (want: number, spec: Partial<TaskSpec>) => {
      await submit(Array.from({ length: 100 }, () => spec))
      await claim(1)
      costs.push(await commandsOf(async () => expect(await claim(want)).toHaveLength(want)))
      await succeed(await claim(100))
    }
    for (const want of [5, 50]) await costOf(want, { uses: { gpu: 1 } })
    await submit([{ uses: { net: 1 } }, { uses: { net: 1 } }])
    await claim(9)
    // More than a claim reads at first.
    for (const want of [20, 90]) await costOf(want, {})
    expect(costs[1]).toBe(costs[0])
    expect(costs[3]).toBe(costs[2])
  })

  it('return no units of a lease that was never counted', async () => {
    await queue.configureLimit('gpu', { max: 3 })
    await submit(['a', 'b', 'c', 'd'].map((payload) => ({ payload, uses: { gpu: 1 } })))
    const leases = await claim()
    expect(payloads(leases)).toBe('a b c')
    // A process of a version without named limits has started the first one.
    const [ref] = cli('HKEYS', 'xq:{0}:using:gpu').split('\n').sort()
    cli('HDEL', 'xq:{0}:using:gpu', ref!)
    cli('HSET', 'xq:{0}:limits:now', '+gpu', '2')
    await queue.configureLimit('gpu', { max: 2 })
    await succeed(leases.slice(0, 1))
    expect(await claim()).toEqual([])
    await succeed(leases.slice(1, 2))
    expect(payloads(await claim())).toBe('d')
  })

  it('cost a claim the same however many lanes wait for them', async () => {
    const costs: number[] = []
    for (const lanes of [10, 10_000]) {
      cli('FLUSHALL')
      await queue.configureType('t', { declared: true })
      await queue.configureLimit('gpu', { max: 1 })
      for (let from = 0; from < lanes; from += 1_000) {
        const some = Array.from({ length: Math.min(lanes, 1_000) }, (_, index) => from + index)
        await submit(some.map((index) => ({ group: `g${index}`, uses: { gpu: 1 } })))
      }
      const [holder] = await claim(1)
      // The lanes are set aside once, some thousand in a step.
      for (let turns = 0; turns < 10; turns++) expect(await claim(9)).toEqual([])
      const free = async () => {
        await submit([{ payload: 'free' }])
        expect(payloads(await claim(1))).toBe('free')
      }
      await free()
      costs.push(await commandsOf(free))
      const freed = async () => {
        await succeed([holder!])
        expect(await claim(9)).toHaveLength(1)
      }
      costs.push(await commandsOf(freed))
    }
    expect(costs[2]! - costs[0]!).toBeLessThan(5)
    expect(costs[3]! - costs[1]!).toBeLessThan(10)
    expect(Math.max(...costs)).toBeLessThan(150)
  })

  it('let all lanes return in the first sweep after their holds, however many limits these are', async () => {
    let now = Date.now()
    const clocked = await openTestQueue(redis.url, { clock: () => now })
    for (let index = 0; index < 30; index++) {
      await clocked.configureLimit(`l${index}`, { max: 1 })
      await clocked.configureLimit(`l${index}`, { holdMs: 1_000 })
      await submit([{ uses: { [`l${index}`]: 1 } }])
    }
    expect((await clocked.turn({ worker: WORKER, want: 9 })).leases).toEqual([])
    expect(cli('ZCARD', 'xq:{0}:limits:parked')).toBe('30')
    now += 1_000
    await clocked.sweep(100)
    expect(cli('ZCARD', 'xq:{0}:limits:parked')).toBe('0')
  })

  it('cost nothing where no task uses them', async () => {
    const run = async () => {
      await submit(Array.from({ length: 50 }, (_, index) => ({ group: index % 2 ? `g${index % 7}` : null })))
      for (let turns = 0; turns < 5; turns++) await succeed(await claim(10))
    }
    for (let runs = 0; runs < 3; runs++) await run()
    const before = await commandsOf(run)
    await queue.configureLimit('gpu', { max: 1 })
    await queue.configureLimit('tenant/*', { max: 1 })
    expect(await commandsOf(run)).toBe(before)
  })

  it('have the units back that a killed worker held', async () => {
    await queue.configureLimit('gpu', { max: 2 })
    await submit([{ uses: { gpu: 2 }, payload: 1 }])
    const child = endAtExit(spawn(process.execPath, [join(import.meta.dirname, 'limits-child.ts'), redis.url]))
    await once(child.stdout!, 'data')
    await submit([{ uses: { gpu: 1 }, payload: 2, group: 'g' }])
    expect(await claim()).toEqual([])
    child.kill('SIGKILL')
    await once(child, 'close')
    const started: Lease[] = []
    await vi.waitFor(
      async () => {
        await queue.sweep(100)
        started.push(...(await claim()))
        expect(started).toHaveLength(1)
        await succeed(started)
        expect(payloads(started)).toMatch(/^[12]$/)
      },
      { timeout: 20_000, interval: 100 },
    )
    const [last] = await claim()
    await succeed([last!])
    expect((await queue.limits({ names: ['gpu'] }))[0]).toMatchObject({ inUse: 0, waiting: 0 })
  })

  it('have the units back of a lease that the previous version has ended', async () => {
    await queue.configureType('t', { groupConcurrency: 1 })
    await queue.configureLimit('gpu', { max: 1 })
    await queue.configureLimit('net', { max: 1 })
    await submit([{ uses: { gpu: 1 }, group: 'a' }])
    await claim()
    await submit([
      { uses: { gpu: 1 }, payload: 'limit' },
      { uses: { net: 1 }, payload: 'group', group: 'a' },
    ])
    expect(payloads(await claim())).toBe('')
    const ref = cli('HKEYS', 'xq:{0}:leases')
    cli('HDEL', 'xq:{0}:leases', ref)
    cli('ZREM', 'xq:{0}:running:t', ref)
    await queue.sweep(100)
    expect(await queue.limits({ names: ['gpu'] })).toMatchObject([{ inUse: 0 }])
    await queue.sweep(100)
    expect(
      payloads(await claim())
        .split(' ')
        .sort(),
    ).toEqual(['group', 'limit'])
  })

  it('have no more units back than those of the leases that have ended, however many there are', async () => {
    await queue.configureLimit('gpu', { max: 120 })
    await submit(Array.from({ length: 61 }, () => ({ uses: { gpu: 2 } })))
    expect(await claim(99)).toHaveLength(60)
    const ended = cli('HKEYS', 'xq:{0}:leases').split('\n').slice(0, 30)
    cli('HDEL', 'xq:{0}:leases', ...ended)
    cli('ZREM', 'xq:{0}:running:t', ...ended)
    let units = 120
    for (let sweeps = 0; sweeps < 1_000 && units > 60; sweeps++) {
      await queue.sweep(100)
      const { inUse } = (await queue.limits({ names: ['gpu'] }))[0]!
      expect(inUse).toBeLessThanOrEqual(units)
      units = inUse!
    }
    expect([units, cli('HLEN', 'xq:{0}:using:gpu')]).toEqual([60, '30'])
    await queue.sweep(100)
    expect(await queue.limits({ names: ['gpu'] })).toMatchObject([{ inUse: 60 }])
  })

  it('count tasks that the previous version has ended until no task is left', async () => {
    await queue.configureLimit('gpu', { max: 1 })
    const [task] = await submit([{ uses: { gpu: 1 } }])
    cli('HINCRBY', 'xq:{0}:limits:now', '#gpu', '2')
    const remove = () => queue.configureLimit('gpu', { remove: true })
    await queue.cancel({ ids: [task!.task.id] })
    await expect(remove()).rejects.toMatchObject({ code: 'limit_in_use' })
    await vi.waitFor(async () => {
      await queue.sweep(100)
      await remove()
    })
  })

  it('are kept with a task so that the previous version takes its lane for a group', async () => {
    await queue.configureLimit('gpu', { max: 2 })
    await queue.configureLimit('net', { max: 2 })
    const [first] = await submit([{ uses: { net: 1, gpu: 2 }, group: 'a' }])
    const [field] = cli('HKEYS', 'xq:{0}:grouped').split('\n')
    const extras = () => cli('HGET', 'xq:{0}:grouped', field!).split('\n')[1]
    expect(extras()).toBe('{},null,"a\\u001fgpu\\u001fnet",null,"cancel",[],{"net":1,"gpu":2}')
    const [second] = await submit([{ uses: { gpu: 1 }, after: [first!.task.id], onFailure: 'run', tags: { k: 'v' } }])
    const stored = cli('HVALS', 'xq:{0}:dependent').split('\n')[1]
    expect(stored).toMatch(/^\{"k":"v"\},null,"\\u001fgpu",null,"run",\["0\/[\d.-]+"\],\{"gpu":1\},\[\]$/)
    expect(await queue.get([first!.task.id, second!.task.id])).toMatchObject([
      { group: 'a', uses: { gpu: 2, net: 1 }, after: [] },
      { group: null, uses: { gpu: 1 }, after: [first!.task.id] },
    ])
  })

  it.each([
    ['', {}, []],
    [' with a limit', { groupConcurrency: 5 }, []],
    [' beside another type', {}, ['u']],
  ])('are checked for a lane that the previous version has added as a group with one task%s', async (_, t, others) => {
    await queue.configureType('t', { declared: true, ...t })
    await queue.configureLimit('gpu', { max: 1 })
    for (const type of others) await queue.configureType(type, { declared: true })
    await submit([{ uses: { gpu: 1 } }, { group: 'a', payload: 'a' }])
    const [holder] = await claim(1)
    await submit([
      { uses: { gpu: 1 }, payload: 'last' },
      ...others.map((type) => ({ type, group: 'b', payload: type })),
    ])
    const member = '\u001fgpu'
    const [place] = cli('ZRANGE', 'xq:{0}:unserved:t:0', '0', '-1').split('\n')
    const [ms, n] = place!.split('|')[0]!.split('-').map(Number)
    for (const key of ['unserved', 'rotation', 'group_queue']) cli('DEL', `xq:{0}:${key}:t:0`)
    const score = (ms! - Number(cli('HGET', 'xq:{0}:lone_from', 't:0'))) * 2 ** 24 + n! - 1e9
    cli('ZADD', 'xq:{0}:lone:t:0', String(score), member)
    const worker = { ...WORKER, types: ['t', ...others] }
    const next = async () => payloads((await queue.turn({ worker, want: 9 })).leases)
    expect(await next()).toBe(['a', ...others].join(' '))
    await succeed([holder!])
    expect(await next()).toBe('last')
  })

  it('bound the tasks that count as runnable', async () => {
    await queue.configureLimit('gpu', { max: 4 })
    await queue.configureLimit('tokens', { rate: { max: 1, perMs: 60_000 } })
    await submit(Array.from({ length: 5 }, () => ({ uses: { gpu: 2 } })))
    await submit([{ uses: { tokens: 1 } }, { uses: { tokens: 1 } }, {}])
    const runnable = async () => (await queue.types({ names: ['t'], demand: true }))[0]!.runnable
    expect(await runnable()).toBe(4)
    expect(await claim()).toHaveLength(4)
    expect(await runnable()).toBe(4)
  })

  it('are checked in claims of one group, and among very many types', async () => {
    await queue.configureLimit('gpu', { max: 1 })
    const types = Array.from({ length: 90 }, (_, index) => `x${index}`)
    for (const type of types.slice(0, 3)) await queue.configureType(type, { declared: true })
    const of = (type: string, group: string) => ({ type, group, uses: { gpu: 1 }, payload: `${type} ${group}` })
    await submit([of('x0', 'a'), of('x1', 'b'), of('x2', 'a'), { type: 'x2', payload: 'free' }])
    const worker = { ...WORKER, types }
    const first = await queue.turn({ worker, want: 9 })
    expect(payloads(first.leases)).toBe('x0 a free')
    const next = async (outcome: Lease, groups?: string[]) => {
      const outcomes = [{ lease: outcome.lease, outcome: { kind: 'success', result: null } as const }]
      return (await queue.turn({ worker, want: 9, outcomes, ...(groups ? { groups } : {}) })).leases
    }
    const second = await next(first.leases[0]!, ['a'])
    expect(payloads(second)).toBe('x2 a')
    expect(payloads(await next(second[0]!))).toBe('x1 b')
  })
})

describe('named limits in a Redis Cluster', () => {
  let cluster: RunningCluster
  beforeEach(async () => {
    cluster = await startCluster()
    return () => cluster.stop()
  })

  const settings = { maxConcurrency: null, groupConcurrency: null, rate: null, payloadSchema: null, defaults: {} }
  const handler = { ...settings, retry: { baseMs: 1, factor: 1, capMs: 1, jitter: 0 } }
  const code = (promise: Promise<unknown>) =>
    promise.then(
      () => 'done',
      (error: { code: string }) => error.code,
    )

  it('lie in the partition of the first type that uses them, and are refused elsewhere with the remedy', async () => {
    const opened = await openTestQueue(cluster.url)
    for (const type of ['t', 'u', 'v']) await opened.configureType(type, { declared: true })
    const use = (type: string, uses: Record<string, number>) => opened.submit([completeSpec({ type, uses })])
    // By an operator alone: no type uses it yet, and each may be the first.
    await opened.configureLimit('gpu', { max: 1 })
    await opened.configureLimit('tenant/*', { max: 1 })
    await opened.configureLimit('tenant/big', { max: 2 })
    expect((await opened.limits()).map(({ name }) => name)).toEqual(['gpu', 'tenant/*', 'tenant/big'])
    await use('t', { gpu: 1 })
    await use('t', { gpu: 1 })
    await use('u', { 'tenant/a': 1, 'tenant/big': 2 })
    expect(await code(use('u', { gpu: 1 }))).toBe('limit_not_placeable')
    expect(await code(use('t', { 'tenant/b': 1 }))).toBe('limit_not_placeable')
    await expect(use('u', { gpu: 1 })).rejects.toThrow(/partitions=1/)
    expect(await code(use('v', { unknown: 1 }))).toBe('unknown_limit')
    const declare = (type: string, max: number) =>
      opened.declareHandlers(new Map([[type, { ...handler, limits: { net: { max, rate: null } } }]]))
    await declare('v', 1)
    expect(await code(declare('t', 1))).toBe('limit_not_placeable')
    expect((await opened.types({ names: ['t'] }))[0]!.maxConcurrency).toBeNull()
    expect(await opened.limits()).toMatchObject([
      { name: 'gpu', max: 1, inUse: 0, waiting: 2 },
      { name: 'net', max: 1 },
      { name: 'tenant/*', max: 1 },
      { name: 'tenant/big', max: 2, waiting: 1 },
    ])
    const worker = { ...WORKER, types: ['t', 'u', 'v'] }
    const claimed = async () => (await opened.turn({ worker, want: 9 })).leases.map(({ task }) => task.type).sort()
    expect(await claimed()).toEqual(['t', 'u'])
    await opened.configureLimit('gpu', { max: 2 })
    expect(await claimed()).toEqual(['t'])
    expect(await code(opened.configureLimit('gpu', { remove: true }))).toBe('limit_in_use')
  })

  it('are shared by all types in a queue with one partition, whose number is fixed', async () => {
    const one = `${cluster.url}?prefix=one&partitions=1`
    const opened = await openTestQueue(one)
    for (const type of ['t', 'u', 'v']) await opened.configureType(type, { declared: true })
    await opened.configureLimit('gpu', { max: 1 })
    await opened.submit(['t', 'u', 'v'].map((type) => completeSpec({ type, uses: { gpu: 1 } })))
    expect((await opened.turn({ worker: { ...WORKER, types: ['t', 'u', 'v'] }, want: 9 })).leases).toHaveLength(1)
    expect(await code(openTestQueue(`${cluster.url}?prefix=one`))).toBe('engine_unusable')
    await openTestQueue(`${cluster.url}?prefix=many`)
    await expect(openTestQueue(`${cluster.url}?prefix=many&partitions=1`)).rejects.toThrow(/has 64 partitions/)
    expect(await code(openTestQueue(one))).toBe('done')
    for (const wrong of ['0', '65', 'x']) {
      expect(await code(openTestQueue(`${cluster.url}?partitions=${wrong}`)), wrong).toBe('engine_unusable')
    }
  })

  it('have as many partitions as a queue of the version before had', async () => {
    const opened = await openTestQueue(cluster.url)
    await opened.configureType('t', { declared: true })
    await opened.close()
    for (const { port } of cluster.nodes) {
      if (redisCli(port, 'EXISTS', 'xq:{0}:partitions:count') === '1') redisCli(port, 'DEL', 'xq:{0}:partitions:count')
    }
    expect(await code(openTestQueue(`${cluster.url}?partitions=1`))).toBe('engine_unusable')
    expect(await code(openTestQueue(cluster.url))).toBe('done')
  })
})
