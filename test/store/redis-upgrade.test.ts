import { createClient } from '@redis/client'
import { beforeEach, expect, it } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import type { Lease, Queue } from '../../src/queue/queue.ts'
import { completeSpec } from '../../src/task/task.ts'
import { type RunningRedis, startRedis } from '../fixtures/redis.ts'
import { openTestQueue } from '../fixtures/server.ts'

const WORKER = { id: 'w', host: 'h', pid: 1, types: ['a'], concurrency: 9, startedAt: 0 }

let redis: RunningRedis
let queue: Queue
beforeEach(async () => {
  redis = await startRedis()
  queue = await openTestQueue(redis.url)
  await queue.configureType('a', { declared: true })
})

/** The lease's record with the fence that the version before wrote: the deliveries and the time. */
async function asBefore(): Promise<string> {
  const client = await createClient({ url: redis.url }).connect()
  const key = (await client.keys('xq:*')).find((name) => name.endsWith('}:leases'))!
  const [[ref, record] = []] = Object.entries(await client.hGetAll(key))
  const fence = `1${record!.split('\n')[0]!.split('|').at(-2)}`
  await client.hSet(key, ref!, record!.replace(/^\d+/, fence))
  await client.close()
  return fence
}

it('renews and settles a lease that was handed out before tokens had a secret', async () => {
  const [submitted] = await queue.submit([completeSpec({ type: 'a' })])
  await queue.turn({ worker: WORKER, want: 1 })
  const lease = `${submitted!.task.id}.${await asBefore()}`
  const other = await openQueue(redis.url)
  const { renewed } = await other.turn({ worker: WORKER, want: 0, renewals: [{ lease }] })
  expect(renewed[0]).toMatchObject({ cancelRequested: false })
  const outcomes = [{ lease, outcome: { kind: 'success', result: 1 } as const }]
  expect((await other.turn({ worker: WORKER, want: 0, outcomes })).settled).toEqual([
    { accepted: true, status: 'success' },
  ])
  await other.close()
})

/** Puts tasks where the first version with groups has them: a stream for each group, and its order. */
async function withStreams(groups: readonly string[]): Promise<string[]> {
  const client = await createClient({ url: redis.url }).connect()
  await queue.submit([completeSpec({ type: 'a' })])
  await queue.cancel({ filter: { type: 'a' } })
  const no = (await client.hGet('xq:{0}:lanes', 'a:0'))!
  const refs: string[] = []
  for (const [index, group] of groups.entries()) {
    const entry = `1700000000000-${1_000_000_000 + index}`
    const stream = `xq:{0}:g:a:0|${group}`
    if ((await client.exists(stream)) === 0) {
      await client.xGroupCreate(stream, 'workers', '0', { MKSTREAM: true })
      await client.zAdd('xq:{0}:ring:a:0', { score: -9e15 + 1_700_000_000_000, value: group })
      await client.zAdd('xq:{0}:newcomers:a:0', { score: 0, value: `${entry}|${group}` })
    }
    await client.xAdd(stream, entry, { m: '0,0,3', p: `${index}`, x: `{},null,"${group}"` })
    await client.hSet('xq:{0}:moved', `${no}.${entry}`, `${entry}|${group}`)
    await client.hIncrBy('xq:{0}:counts', 'a:grouped', 1)
    refs.push(`${no}.${entry}`)
  }
  await client.close()
  return refs
}

const keysOfGroups = async () => {
  const client = await createClient({ url: redis.url }).connect()
  const keys = await client.keys('xq:{0}:*')
  await client.close()
  return keys.filter((key) => /:(g|ring|ring_clock|served|newcomers|aside|idle|held|moved):?/.test(key.slice(6)))
}

it('hands out tasks that wait in the streams of groups, in rotation, and removes the streams', async () => {
  await withStreams(['c', 'b', 'c', 'a'])
  const [late] = await queue.submit([completeSpec({ type: 'a', group: 'b' })])
  const { leases } = await queue.turn({ worker: WORKER, want: 9 })
  expect(leases.map(({ task }) => task.group).join(' ')).toBe('c b a c b')
  expect(leases.at(-1)!.task.id).toBe(late!.task.id)
  expect((await queue.types({ names: ['a'] }))[0]).toMatchObject({ pending: 0, processing: 5 })
  const outcomes = leases.map(({ lease }) => ({ lease, outcome: { kind: 'success', result: null } as const }))
  await queue.turn({ worker: WORKER, want: 0, outcomes })
  await queue.sweep(1_000)
  expect(await keysOfGroups()).toEqual([])
})

it('finds, cancels and lists tasks that wait in the streams of groups', async () => {
  await withStreams(['c', 'b', 'c'])
  await queue.sweep(1_000)
  const { tasks } = await queue.list({ status: 'pending', limit: 9 })
  expect(tasks.map(({ group, payload }) => [group, payload])).toEqual([
    ['c', 0],
    ['b', 1],
    ['c', 2],
  ])
  expect((await queue.cancel({ ids: [tasks[0]!.id] })).results[0]!.outcome).toBe('changed')
  const { leases } = await queue.turn({ worker: WORKER, want: 9 })
  expect(leases.map(({ task }) => task.payload)).toEqual([1, 2])
})

it('hands out first what was given back to the stream of a group', async () => {
  const [first] = await withStreams(['c', 'c'])
  const entry = first!.slice(first!.indexOf('.') + 1)
  const client = await createClient({ url: redis.url }).connect()
  await client.xReadGroup('workers', 'w', { key: 'xq:{0}:g:a:0|c', id: '>' }, { COUNT: 1 })
  await client.zAdd('xq:{0}:back:a:0|c', { score: 0, value: entry })
  await client.hSet('xq:{0}:again', first!, `0,0,3,${first},0,1,1,1700000000000,0,1700000000000,null\n"lost"`)
  const { leases } = await queue.turn({ worker: WORKER, want: 9 })
  expect(leases.map(({ task }) => [task.payload, task.deliveries, task.error])).toEqual([
    [0, 2, 'lost'],
    [1, 1, null],
  ])
  await succeed(leases)
  await queue.sweep(1_000)
  expect(await redisKeys(/:(back:|again$)/)).toEqual([])
  expect(await keysOfGroups()).toEqual([])
  await client.close()
})

it('settles a lease that was handed out from the stream of a group, and counts it for the limit of the group', async () => {
  await queue.configureType('a', { groupConcurrency: 1 })
  const [ref] = await withStreams(['c', 'c'])
  const client = await createClient({ url: redis.url }).connect()
  const [entry] = ref!.split('.').slice(1)
  await client.xReadGroup('workers', 'w', { key: 'xq:{0}:g:a:0|c', id: '>' }, { COUNT: 1 })
  const expires = Date.now() + 60_000
  const head = `17|0|0|0|60000|${expires}|${entry}|0|0|1|0|0|3|1700000000000|${Date.now()}|"w"`
  await client.hSet('xq:{0}:leases', ref!, `${head}\n{},null,"c"\n0\nnull`)
  await client.zAdd('xq:{0}:running:a', { score: expires, value: ref! })
  await client.sAdd('xq:{0}:held:a|c', ref!)
  await client.hSet('xq:{0}:served:a:0', 'c', '1')
  await client.hDel('xq:{0}:moved', ref!)
  await client.hIncrBy('xq:{0}:counts', 'a:grouped', -1)
  await client.hIncrBy('xq:{0}:busy', '"w"', 1)
  expect((await queue.turn({ worker: WORKER, want: 9 })).leases).toEqual([])
  const [running] = (await queue.list({ status: 'processing', limit: 1 })).tasks
  const outcomes = [{ lease: `${running!.id}.17`, outcome: { kind: 'success', result: 1 } as const }]
  const next = await queue.turn({ worker: WORKER, want: 9, outcomes })
  expect(next.settled).toEqual([{ accepted: true, status: 'success' }])
  expect(next.leases.map(({ task }) => task.payload)).toEqual([1])
  await queue.turn({
    worker: WORKER,
    want: 0,
    outcomes: [{ lease: next.leases[0]!.lease, outcome: { kind: 'success', result: 1 } }],
  })
  await queue.sweep(1_000)
  await queue.sweep(1_000)
  expect(await keysOfGroups()).toEqual([])
  await client.close()
})

it('notices that the previous version has released the permit of a group', async () => {
  await queue.configureType('a', { groupConcurrency: 1 })
  await queue.submit([1, 2].map((payload) => completeSpec({ type: 'a', group: 'c', payload })))
  expect((await queue.turn({ worker: WORKER, want: 9 })).leases).toHaveLength(1)
  expect((await queue.turn({ worker: WORKER, want: 9 })).leases).toEqual([])
  const client = await createClient({ url: redis.url }).connect()
  const [ref] = await client.hKeys('xq:{0}:leases')
  await client.hDel('xq:{0}:leases', ref!)
  await client.zRem('xq:{0}:running:a', ref!)
  await client.sRem('xq:{0}:held:a|c', ref!)
  await client.close()
  await queue.sweep(1_000)
  expect((await queue.turn({ worker: WORKER, want: 9 })).leases.map(({ task }) => task.payload)).toEqual([2])
})

const groupsOf = (leases: readonly Lease[]) => leases.map(({ task }) => task.group).join(' ')

async function succeed(leases: readonly Lease[]): Promise<void> {
  const outcomes = leases.map(({ lease }) => ({ lease, outcome: { kind: 'success', result: null } as const }))
  const { settled } = await queue.turn({ worker: WORKER, want: 0, outcomes })
  expect(settled.every(({ accepted }) => accepted)).toBe(true)
}

async function redisKeys(pattern: RegExp): Promise<string[]> {
  const client = await createClient({ url: redis.url }).connect()
  const keys = await client.keys('xq:{0}:*')
  await client.close()
  return keys.filter((key) => pattern.test(key.slice(6)))
}
const QUEUE_OF_GROUPS = /:(grouped|group_queue|group_waits|rotation|unserved|crowded|lone|at_limit|held)(:|$)/

/** Puts tasks where the version before has them: each group in the queue and the rotation, also with one task. */
async function withQueue(groups: readonly string[], ms = 1_700_000_000_000): Promise<void> {
  const client = await createClient({ url: redis.url }).connect()
  const [opening] = await queue.submit([completeSpec({ type: 'a' })])
  await queue.cancel({ ids: [opening!.task.id] })
  const no = (await client.hGet('xq:{0}:lanes', 'a:0'))!
  for (const [index, group] of groups.entries()) {
    const entry = `${ms}-${1_000_000_000 + index}`
    await client.hSet('xq:{0}:grouped', `${no}.${entry}`, `0,0,3\n{},null,"${group}"\n"${group}${index}"\nnull`)
    await client.zAdd('xq:{0}:group_queue:a:0', { score: 0, value: `${group.length}|${group}|${entry}` })
    await client.hIncrBy('xq:{0}:counts', 'a:grouped', 1)
    if ((await client.zScore('xq:{0}:rotation:a:0', group)) === null) {
      await client.zAdd('xq:{0}:rotation:a:0', { score: -9e15 + ms, value: group })
      await client.zAdd('xq:{0}:unserved:a:0', { score: 0, value: `${entry}|${group}` })
    } else {
      await client.sAdd('xq:{0}:crowded:a:0', group)
    }
  }
  await client.close()
}

it('hands out tasks of groups that wait in the queue of the previous version, in rotation with later ones', async () => {
  await withQueue(['c', 'b', 'c', 'a'])
  await queue.submit(['b', 'd', 'e', 'd'].map((group) => completeSpec({ type: 'a', group })))
  const { tasks } = await queue.list({ status: 'pending', type: 'a', limit: 9 })
  expect(tasks.map(({ group }) => group).join(' ')).toBe('c b c a b d e d')
  const { leases } = await queue.turn({ worker: WORKER, want: 9 })
  expect(groupsOf(leases)).toBe('c b a d e c b d')
  await succeed(leases)
  expect((await queue.types({ names: ['a'] }))[0]).toMatchObject({ pending: 0, processing: 0 })
  await queue.sweep(1_000)
  expect(await redisKeys(QUEUE_OF_GROUPS)).toEqual([])
})

it('releases the permits of groups that the previous version keeps for types without a limit', async () => {
  await queue.submit(['c', 'd', 'c', 'd'].map((group) => completeSpec({ type: 'a', group })))
  const { leases } = await queue.turn({ worker: WORKER, want: 2 })
  const client = await createClient({ url: redis.url }).connect()
  for (const ref of await client.hKeys('xq:{0}:leases')) {
    const [group] = (await client.hGet('xq:{0}:leases', ref))!.match(/(?<=null,")\w/)!
    await client.sAdd(`xq:{0}:held:a|${group}`, ref)
  }
  await client.close()
  await succeed(leases.splice(0, 1))
  expect(await redisKeys(/:held:/)).toEqual(['xq:{0}:held:a|d'])
  await queue.configureType('a', { groupConcurrency: 1 })
  expect(groupsOf((await queue.turn({ worker: WORKER, want: 9 })).leases)).toBe('c')
  await succeed(leases)
  expect(groupsOf((await queue.turn({ worker: WORKER, want: 9 })).leases)).toBe('d')
})

it('skips a task that the previous version has ended', async () => {
  const ended = async (group: string) => {
    await queue.submit([completeSpec({ type: 'a', group })])
    const client = await createClient({ url: redis.url }).connect()
    const refs = await client.hKeys('xq:{0}:grouped')
    const texts = await client.hmGet('xq:{0}:grouped', refs)
    const ref = refs[texts.findIndex((text) => text!.includes(`null,"${group}"`))]!
    await client.hDel('xq:{0}:grouped', ref)
    await client.zRem('xq:{0}:group_waits', ref)
    await client.hIncrBy('xq:{0}:counts', 'a:grouped', -1)
    await client.close()
  }
  await ended('c')
  await ended('d')
  await queue.submit(['d', 'e'].map((group) => completeSpec({ type: 'a', group })))
  expect((await queue.list({ status: 'pending', type: 'a', limit: 9 })).tasks).toHaveLength(2)
  const { leases } = await queue.turn({ worker: WORKER, want: 9 })
  expect(groupsOf(leases).split(' ').sort()).toEqual(['d', 'e'])
  await succeed(leases)
  await queue.submit([completeSpec({ type: 'a', group: 'c' })])
  expect(groupsOf((await queue.turn({ worker: WORKER, want: 9 })).leases)).toBe('c')
  expect(await redisKeys(QUEUE_OF_GROUPS)).toEqual([])
})

it('keeps the order and the limit of a group to which the previous version adds a task', async () => {
  await queue.configureType('a', { groupConcurrency: 1 })
  await queue.submit(['c', 'd'].map((group) => completeSpec({ type: 'a', payload: 'first', group })))
  await withQueue(['c'], Date.now() + 1)
  const first = await queue.turn({ worker: WORKER, want: 9 })
  expect(first.leases.map(({ task }) => [task.group, task.payload])).toEqual([
    ['c', 'first'],
    ['d', 'first'],
  ])
  await succeed(first.leases)
  const second = await queue.turn({ worker: WORKER, want: 9 })
  expect(second.leases.map(({ task }) => [task.group, task.payload])).toEqual([['c', 'c0']])
})

it.each([
  ['has a permit', 2, 'c'],
  ['has no limit any more', null, 'c c'],
  ['has no permit', 1, ''],
])(
  'lets a sweep bring back a group that the previous version keeps at its limit if it %s',
  async (_, most, started) => {
    await queue.configureType('a', { groupConcurrency: most })
    await queue.submit(['c', 'c', 'c'].map((group) => completeSpec({ type: 'a', group })))
    await queue.turn({ worker: WORKER, want: 1 })
    const client = await createClient({ url: redis.url }).connect()
    const position = String(await client.zScore('xq:{0}:rotation:a:0', 'c'))
    await client.zRem('xq:{0}:rotation:a:0', 'c')
    await client.hSet('xq:{0}:at_limit:a:0', 'c', position)
    await queue.sweep(1_000)
    expect(await client.hGet('xq:{0}:at_limit:a:0', 'c')).toBe(started === '' ? position : null)
    await client.close()
    expect(groupsOf((await queue.turn({ worker: WORKER, want: 9 })).leases)).toBe(started)
  },
)

it('shares schedules, keys, the secret and readers with the previous version, in its format', async () => {
  const client = await createClient({ url: redis.url }).connect()
  const at = (name: string) => `xq:{0}:${name}`
  const task = { type: 'a', payload: 1, priority: 0, maxRetry: 3, queueTimeoutMs: 0, processTimeoutMs: 0, tags: {} }
  const spec = { id: 's', task: { ...task, group: null }, timing: { everyMs: 1_000 }, catchUp: 'one' } as const
  const rest = { overlap: 'skip', paused: false, nextAt: 1_000, createdAt: 1, updatedAt: 2 } as const
  const [submitted] = await queue.submit([completeSpec({ type: 'a' })])
  await client.hSet(at('schedules'), 's', JSON.stringify({ ...spec, ...rest }))
  await client.zAdd(at('ticks'), { score: 1_000, value: 's' })
  const [placed] = (await client.xRange(at('s:a:0'), '-', '+'))!.map(({ id }) => id)
  const lane = await client.hGet(at('lanes'), 'a:0')
  await client.hSet(at('made'), 's', `7 ${lane}.${placed}`)
  const key = { id: 'k', name: 'n', hash: 'h', scopes: ['read' as const], rate: null, createdAt: 5, expiresAt: null }
  await client.hSet(at('api_keys'), 'k', JSON.stringify({ ...key, session: null }))
  await client.set(at('secret'), 's'.repeat(43))
  await client.set(at('reader:r'), `${Date.now() + 60_000}|me|0`)
  expect(await queue.schedules()).toEqual([{ ...spec, ...rest, lastAt: 7, lastTaskId: submitted!.task.id }])
  expect(await queue.keys()).toEqual({ keys: [{ ...key, session: null }], secret: 's'.repeat(43) })
  const read = (owner: string, after: string | null = null) =>
    queue.events({ after, max: 9, reader: { name: 'r', owner, leaseMs: 30_000 } })
  expect((await read('other')).held).toBe(false)
  const { last } = await read('me')
  await read('me', last)
  expect(await client.get(at('reader:r'))).toMatch(new RegExp(`^\\d{13}\\|me\\|${last}$`))
  // The version before takes the lease when it has expired: its commit counts.
  await client.set(at('reader:r'), `${Date.now() - 1}||5`)
  expect((await read('me', last)).held).toBe(true)
  expect(await client.get(at('reader:r'))).toMatch(/\|me\|5$/)
  // Its last task has not ended: the schedule moves on without another one.
  await queue.sweep(100)
  const { nextAt, ...moved } = JSON.parse((await client.hGet(at('schedules'), 's'))!)
  expect(moved).toEqual({ ...spec, ...rest, nextAt: undefined })
  expect(nextAt).toBeGreaterThan(Date.now() - 1_000)
  expect(await client.zScore(at('ticks'), 's')).toBe(nextAt)
  const [run] = await queue.schedules({ run: 's' })
  expect(await client.hGet(at('made'), 's')).toBe(`${run!.lastAt} ${(await refs(client))[1]}`)
  await client.close()

  async function refs(of: typeof client): Promise<string[]> {
    return (await of.xRange(at('s:a:0'), '-', '+'))!.map(({ id }) => `${lane}.${id}`)
  }
})
