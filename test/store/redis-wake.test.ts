import { setImmediate as tick } from 'node:timers/promises'
import { beforeAll, describe, expect, it } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import type { TypeChange } from '../../src/queue/queue.ts'
import { completeSpec } from '../../src/task/task.ts'
import { type RunningRedis, redisCli, startRedis } from '../fixtures/redis.ts'
import { openTestQueue } from '../fixtures/server.ts'

let redis: RunningRedis
beforeAll(async () => {
  redis = await startRedis()
})

const ROUNDS = 1_500
const TASKS = 200

it('wakes a waiting turn at any time of the submission, also before the turn reaches Redis', async () => {
  const [here, there] = await Promise.all([openQueue(redis.url), openQueue(redis.url)])
  await here.configureType('t', { declared: true })
  const worker = { id: 'w', host: 'h', pid: 1, types: ['t'], concurrency: 1, startedAt: 0 }
  // There are no sweeps: a missed wake-up would not be repaired soon.
  for (let round = 0; round < ROUNDS; round++) {
    const waiting = here.turn({ worker, want: 1, waitMs: 60_000 })
    for (let ticks = 0; ticks < round % 8; ticks++) await tick()
    await there.submit([completeSpec({ type: 't' })])
    const { leases } = await waiting
    expect(leases).toHaveLength(1)
    const outcomes = leases.map(({ lease }) => ({ lease, outcome: { kind: 'success', result: null } as const }))
    await here.turn({ worker, want: 0, outcomes })
  }
  await Promise.all([here.close(), there.close()])
})

it('wakes the turn that follows a report, at any time of the submission', async () => {
  const [here, there] = await Promise.all([openQueue(redis.url), openQueue(redis.url)])
  await here.configureType('reported', { declared: true })
  const worker = { id: 'w', host: 'h', pid: 1, types: ['reported'], concurrency: 1, startedAt: 0 }
  let outcomes: { lease: string; outcome: { kind: 'success'; result: null } }[] = []
  const works = async (round: number) => {
    const report = { worker, want: 1, waitMs: 60_000, outcomes }
    const first = outcomes.length === 0 ? [] : (await here.turn(report)).leases
    for (let ticks = 0; ticks < round % 3; ticks++) await tick()
    const { leases } = first.length > 0 ? { leases: first } : await here.turn({ worker, want: 1, waitMs: 60_000 })
    outcomes = leases.map(({ lease }) => ({ lease, outcome: { kind: 'success', result: null } }))
    return leases
  }
  for (let round = 0; round < ROUNDS; round++) {
    const working = works(round)
    for (let ticks = 0; ticks < round % 8; ticks++) await tick()
    await there.submit([completeSpec({ type: 'reported' })])
    expect(await working).toHaveLength(1)
  }
  await Promise.all([here.close(), there.close()])
})

it('passes the message on to another process when the woken turn has claimed all that it wants elsewhere', async () => {
  const [both, one, there] = await Promise.all([openQueue(redis.url), openQueue(redis.url), openQueue(redis.url)])
  await there.configureType('first', { declared: true })
  await there.configureType('second', { declared: true })
  const worker = { host: 'h', pid: 1, concurrency: 1, startedAt: 0, types: ['first', 'second'] }
  const tasks = [completeSpec({ type: 'first', priority: 9 }), completeSpec({ type: 'second' })]
  for (let round = 0; round < 20; round++) {
    const waits = { want: 1, waitMs: 60_000 }
    const ofBoth = both.turn({ worker: { ...worker, id: 'both' }, ...waits })
    const ofOne = one.turn({ worker: { ...worker, id: 'one', types: ['second'] }, ...waits })
    await expect.poll(() => redisCli(redis.port, 'scard', 'xq:{0}:waiting:second')).toBe('2')
    await there.submit(tasks)
    const types = (await Promise.all([ofBoth, ofOne])).map(({ leases }) => leases.map(({ task }) => task.type))
    expect(types).toEqual([['first'], ['second']])
  }
  await Promise.all([both.close(), one.close(), there.close()])
})

it.each<[string, TypeChange, TypeChange]>([
  ['it is resumed', { paused: true }, { paused: false }],
  ['its limit is raised', { maxConcurrency: 1 }, { maxConcurrency: 2 }],
  ['the limit of its groups is raised', { groupConcurrency: 1 }, { groupConcurrency: 2 }],
  ['its rate is removed', { rate: { max: 1, perMs: 3_600_000 } }, { rate: null }],
  ['its hold is ended', { holdMs: 3_600_000 }, { holdMs: 0 }],
])('wakes the processes that wait for a type when %s', async (change, before, after) => {
  const [here, there] = await Promise.all([openQueue(redis.url), openQueue(redis.url)])
  const type = change.replaceAll(' ', '-')
  await here.configureType(type, { declared: true })
  await here.submit(['first', 'second', 'third'].map((payload) => completeSpec({ type, payload, group: 'g' })))
  const worker = { id: 'here', host: 'h', pid: 1, types: [type], concurrency: 1, startedAt: 0 }
  expect((await here.turn({ worker, want: 1 })).leases).toHaveLength(1)
  await here.configureType(type, before)
  expect((await here.turn({ worker, want: 1 })).leases).toHaveLength('rate' in before ? 1 : 0)
  // A process asks again after 20 seconds in any case.
  const waiting = there.turn({ worker: { ...worker, id: 'there' }, want: 1, waitMs: 15_000 })
  const waits = () => redisCli(redis.port, 'EXISTS', `xq:{0}:waiting:${type}`, `xq:{0}:blocked:${type}`)
  await expect.poll(waits).not.toBe('0')
  await here.configureType(type, after)
  expect((await waiting).leases).toHaveLength(1)
  await Promise.all([here.close(), there.close()])
})

it.each([1, 70])(
  'wakes no process for a task that is given back and started again in one turn, with %d types',
  async (n) => {
    const alone = await startRedis()
    const [here, there] = await Promise.all([openQueue(alone.url), openQueue(alone.url)])
    await there.configureType('again', { declared: true })
    const types = ['again', ...Array.from({ length: n - 1 }, (_, index) => `type-${index}`)]
    const worker = { id: 'here', host: 'h', pid: 1, types, concurrency: 1, startedAt: 0 }
    await there.submit([completeSpec({ type: 'again' })])
    const [first] = (await here.turn({ worker, want: 1 })).leases
    const waiting = there.turn({ worker: { ...worker, id: 'there' }, want: 1, waitMs: 60_000 })
    const waits = () => redisCli(alone.port, 'exists', 'xq:{0}:waiting:again', 'xq:{0}:waiting_typesets')
    await expect.poll(waits).toBe('1')
    redisCli(alone.port, 'config', 'resetstat')
    const giveBack = (lease: string) => [{ lease, outcome: { kind: 'released' } as const }]
    const [second] = (await here.turn({ worker, want: 1, outcomes: giveBack(first!.lease) })).leases
    expect(callsIn(redisCli(alone.port, 'info', 'commandstats'))).not.toHaveProperty('publish')
    // The other process is woken for a task that this turn does not start again.
    await here.turn({ worker, want: 0, outcomes: giveBack(second!.lease) })
    expect((await waiting).leases).toHaveLength(1)
    await Promise.all([here.close(), there.close()])
  },
)

it('runs three steps for a task that is submitted, claimed and settled alone, and few commands', async () => {
  const alone = await startRedis()
  const [here, there] = await Promise.all([openQueue(alone.url), openQueue(alone.url)])
  await there.configureType('lonely', { declared: true, maxConcurrency: 1_000 })
  const worker = { id: 'w', host: 'h', pid: 1, types: ['lonely'], concurrency: 10, startedAt: 0 }
  const waits = { worker, want: 10, waitMs: 60_000 }
  const handleOne = async () => {
    const waiting = here.turn(waits)
    await there.submit([completeSpec({ type: 'lonely' })])
    const { leases } = await waiting
    const outcomes = leases.map(({ lease }) => ({ lease, outcome: { kind: 'success', result: null } as const }))
    expect((await here.turn({ ...waits, outcomes })).settled).toEqual([{ accepted: true, status: 'success' }])
  }
  await handleOne()
  redisCli(alone.port, 'config', 'resetstat')
  for (let task = 0; task < TASKS; task++) await handleOne()
  const calls = callsIn(redisCli(alone.port, 'info', 'commandstats'))
  // A few more are allowed for descriptions of the worker and statistics, which are written by time.
  const some = TASKS / 20
  expect(calls.fcall).toBeLessThan(3 * TASKS + some)
  expect(Object.values(calls).reduce((sum, count) => sum + count, 0)).toBeLessThan(57 * TASKS)
  await Promise.all([here.close(), there.close()])
})

function callsIn(stats: string): Record<string, number> {
  const lines = [...stats.matchAll(/^cmdstat_(\w+):calls=(\d+)/gm)]
  return Object.fromEntries(lines.map(([, name, calls]) => [name, Number(calls)]))
}

describe.each(['waiting', 'blocked'])('a process that is registered as %s', (key) => {
  const cli = (...args: string[]) => redisCli(redis.port, ...args)

  /** A queue with a limit of 1, and tasks of groups that use it; the first one has started. */
  async function openLimited(tasks: number) {
    cli('FLUSHALL')
    const queue = await openTestQueue(redis.url)
    await queue.configureType('t', { declared: true })
    await queue.configureLimit('gpu', { max: 1 })
    const spec = (index: number) => completeSpec({ type: 't', group: `g${index}`, uses: { gpu: 1 } })
    const specs = Array.from({ length: tasks }, (_, index) => spec(index))
    for (let from = 0; from < tasks; from += 1_000) await queue.submit(specs.slice(from, from + 1_000))
    const worker = { id: 'w', host: 'h', pid: 1, types: ['t'], concurrency: 1, startedAt: 0 }
    const claim = async () => (await queue.turn({ worker, want: 1 })).leases
    expect(await claim()).toHaveLength(1)
    return { queue, claim }
  }
  // It has ended, so that a notification only removes it.
  const register = () => cli('SADD', `xq:{0}:${key}:t`, 'ended')
  const isNotified = () => cli('EXISTS', `xq:{0}:${key}:t`) === '0'

  it('is notified when a limit has room', async () => {
    const { queue, claim } = await openLimited(2)
    expect(await claim()).toEqual([])
    register()
    await queue.configureLimit('gpu', { max: 2 })
    expect(isNotified()).toBe(true)
  })

  it('is notified while a claim leaves lanes over to the next one', async () => {
    const { claim } = await openLimited(3_000)
    for (const leavesOver of [true, false]) {
      register()
      expect(await claim()).toEqual([])
      expect(isNotified()).toBe(leavesOver)
    }
  })
})
