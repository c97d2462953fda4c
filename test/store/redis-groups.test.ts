import { expect, it } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import { completeSpec } from '../../src/task/task.ts'
import { redisCli, startRedis } from '../fixtures/redis.ts'

it('keeps nothing of the waits of grouped tasks that have started or were canceled', async () => {
  const redis = await startRedis()
  const queue = await openQueue(redis.url)
  const waits = () => redisCli(redis.port, 'ZCARD', 'xq:{0}:group_waits')
  try {
    await queue.configureType('t', { declared: true })
    const specs = Array.from({ length: 21 }, (_, index) => completeSpec({ type: 't', group: `g${index}` }))
    const submitted = await queue.submit(specs)
    expect(waits()).toBe('21')
    await queue.cancel({ ids: [submitted[0]!.task.id] })
    expect(waits()).toBe('20')
    const worker = { id: 'w', host: 'h', pid: 1, types: ['t'], concurrency: 20, startedAt: 0 }
    expect((await queue.turn({ worker, want: 20 })).leases).toHaveLength(20)
    expect(waits()).toBe('0')
  } finally {
    await queue.close()
    await redis.stop()
  }
})

const WORKER = { id: 'w', host: 'h', pid: 1, types: ['t'], concurrency: 100, startedAt: 0 }

it('spends few commands on a task, however many groups came in the same millisecond, and keeps nothing of them', async () => {
  const redis = await startRedis()
  const queue = await openQueue(redis.url)
  const tasks = 1_000
  try {
    await queue.configureType('t', { declared: true })
    await queue.submit(Array.from({ length: tasks }, (_, index) => completeSpec({ type: 't', group: `g${index}` })))
    redisCli(redis.port, 'CONFIG', 'RESETSTAT')
    const order: string[] = []
    while (order.length < tasks) {
      const { leases } = await queue.turn({ worker: WORKER, want: 20 })
      order.push(...leases.map(({ task }) => task.group!))
      const outcomes = leases.map(({ lease }) => ({ lease, outcome: { kind: 'success', result: null } as const }))
      await queue.turn({ worker: WORKER, want: 0, outcomes })
    }
    expect(order).toEqual(Array.from({ length: tasks }, (_, index) => `g${index}`))
    const calls = [...redisCli(redis.port, 'INFO', 'commandstats').matchAll(/calls=(\d+)/g)]
    expect(calls.reduce((sum, [, count]) => sum + Number(count), 0) / tasks).toBeLessThan(4)
    expect(redisCli(redis.port, 'EXISTS', 'xq:{0}:grouped')).toBe('0')
    expect(redisCli(redis.port, 'KEYS', 'xq:{0}:held:*')).toBe('')
    await queue.sweep(1_000)
    await queue.sweep(1_000)
    for (const key of ['lone', 'group_queue', 'unserved', 'rested', 'rotation', 'crowded']) {
      expect(redisCli(redis.port, 'EXISTS', `xq:{0}:${key}:t:0`), key).toBe('0')
    }
    expect(redisCli(redis.port, 'EXISTS', 'xq:{0}:busy')).toBe('0')
  } finally {
    await queue.close()
    await redis.stop()
  }
})

it('spends no more commands on a group with few tasks than on one with a task, and forgets groups that were canceled', async () => {
  const redis = await startRedis()
  const queue = await openQueue(redis.url)
  try {
    await queue.configureType('t', { declared: true })
    const specs = ['a', 'b', 'a', 'b', 'c', 'a'].map((group) => completeSpec({ type: 't', group }))
    const submitted = await queue.submit(specs)
    await queue.cancel({ ids: [0, 4].map((index) => submitted[index]!.task.id) })
    const { leases } = await queue.turn({ worker: WORKER, want: 9 })
    expect(leases.map(({ task }) => task.id)).toEqual([1, 2, 3, 5].map((index) => submitted[index]!.task.id))
    await queue.sweep(1_000)
    for (const key of ['lone', 'group_queue', 'unserved', 'rested', 'rotation', 'crowded']) {
      expect(redisCli(redis.port, 'EXISTS', `xq:{0}:${key}:t:0`), key).toBe('0')
    }
  } finally {
    await queue.close()
    await redis.stop()
  }
})

it('keeps nothing of groups whose tasks were claimed by name', async () => {
  const redis = await startRedis()
  const queue = await openQueue(redis.url)
  try {
    await queue.configureType('t', { declared: true })
    await queue.submit(['a', 'a', 'b', 'c'].map((group) => completeSpec({ type: 't', group })))
    const { leases } = await queue.turn({ worker: WORKER, want: 2, groups: ['a', 'b'] })
    expect(leases.map(({ task }) => task.group)).toEqual(['a', 'a'])
    expect(redisCli(redis.port, 'ZRANGE', 'xq:{0}:rotation:t:0', '0', '-1')).not.toContain('a')
    expect((await queue.turn({ worker: WORKER, want: 9, groups: ['b', 'c'] })).leases).toHaveLength(2)
    for (const key of ['lone', 'group_queue', 'unserved', 'rotation', 'crowded']) {
      expect(redisCli(redis.port, 'EXISTS', `xq:{0}:${key}:t:0`), key).toBe('0')
    }
  } finally {
    await queue.close()
    await redis.stop()
  }
})

it('keeps the leases of groups apart only for types that have had a limit of the group', async () => {
  const redis = await startRedis()
  const queue = await openQueue(redis.url)
  const held = () => redisCli(redis.port, 'KEYS', 'xq:{0}:held:*').split('\n').filter(Boolean).sort()
  try {
    await queue.configureType('t', { declared: true })
    const groups = ['a', 'b', 'c', 'c', 'd']
    await queue.submit(groups.map((group) => completeSpec({ type: 't', group })))
    const { leases } = await queue.turn({ worker: WORKER, want: 3 })
    expect(held()).toEqual([])
    await queue.configureType('t', { groupConcurrency: 1 })
    expect(held()).toEqual(['a', 'b', 'c'].map((group) => `xq:{0}:held:t|${group}`))
    leases.push(...(await queue.turn({ worker: WORKER, want: 9 })).leases)
    expect(leases.map(({ task }) => task.group)).toEqual(['a', 'b', 'c', 'd'])
    await queue.configureType('t', { groupConcurrency: null })
    leases.push(...(await queue.turn({ worker: WORKER, want: 9 })).leases)
    expect(redisCli(redis.port, 'SCARD', 'xq:{0}:held:t|c')).toBe('2')
    const outcomes = leases.map(({ lease }) => ({ lease, outcome: { kind: 'success', result: null } as const }))
    await queue.turn({ worker: WORKER, want: 0, outcomes })
    expect(held()).toEqual([])
  } finally {
    await queue.close()
    await redis.stop()
  }
})

it('keeps the order of groups with one waiting task over a time that no score of Redis can express', async () => {
  const redis = await startRedis()
  let now = Date.now()
  const queue = await openQueue(redis.url, { clock: () => now })
  const alone = () => redisCli(redis.port, 'ZRANGE', 'xq:{0}:lone:t:0', '0', '-1').split('\n').filter(Boolean)
  const submit = (groups: string) =>
    queue.submit(groups.split(' ').map((group) => completeSpec({ type: 't', group, queueTimeoutMs: 0 })))
  const claim = async (want: number) =>
    (await queue.turn({ worker: WORKER, want })).leases.map(({ task }) => task.group).join(' ')
  try {
    await queue.configureType('t', { declared: true })
    await submit('a b')
    now += 5 * 86_400_000
    await submit('c d')
    expect(alone()).toEqual(['a', 'b'])
    expect(await claim(3)).toBe('a b c')
    await submit('e b')
    expect(alone()).toContain('e')
    expect(await claim(9)).toBe('d e b')
  } finally {
    await queue.close()
    await redis.stop()
  }
})

it('forgets groups that share time when the others have used as much, also while these run', async () => {
  const redis = await startRedis()
  let now = Date.now()
  const queue = await openQueue(redis.url, { clock: () => now })
  const work = async (groups: readonly string[], ms: number) => {
    await queue.submit(groups.map((group) => completeSpec({ type: 't', group })))
    const { leases } = await queue.turn({ worker: WORKER, want: groups.length })
    now += ms
    const outcomes = leases.map(({ lease }) => ({ lease, outcome: { kind: 'success', result: null } as const }))
    await queue.turn({ worker: WORKER, want: 0, outcomes })
  }
  const kept = () => ['rested', 'paces'].map((key) => redisCli(redis.port, 'HKEYS', `xq:{0}:${key}:t:0`).split('\n'))
  try {
    await queue.configureType('t', { declared: true, groupTurns: 'time' })
    const groups = Array.from({ length: 20 }, (_, index) => `g${index}`)
    await work(groups, 100)
    await queue.submit(['busy', 'busy'].map((group) => completeSpec({ type: 't', group })))
    await queue.turn({ worker: WORKER, want: 1 })
    await queue.sweep(1_000)
    for (const names of kept()) expect(names).toEqual(expect.arrayContaining(groups))
    for (let rounds = 0; rounds < 5; rounds++) await work(['busy'], 1_000)
    await queue.sweep(1_000)
    for (const names of kept()) expect(groups.filter((group) => names.includes(group))).toEqual([])
    await queue.configureType('t', { groupTurns: 'tasks' })
    expect(redisCli(redis.port, 'EXISTS', 'xq:{0}:paces:t:0')).toBe('0')
  } finally {
    await queue.close()
    await redis.stop()
  }
})
