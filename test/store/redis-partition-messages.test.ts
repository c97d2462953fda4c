import { beforeAll, expect, it } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import type { Lease, Queue } from '../../src/queue/queue.ts'
import { canceledBecause, canceledBecauseGone } from '../../src/task/flow.ts'
import type { Json } from '../../src/task/json.ts'
import { completeSpec, type TaskSpec } from '../../src/task/task.ts'
import { redisCli, startRedis } from '../fixtures/redis.ts'
import { type RunningCluster, startCluster } from '../fixtures/redis-cluster.ts'
import { openTestQueue } from '../fixtures/server.ts'

const WORKER = { id: 'w', host: 'h', pid: 1, types: ['mail', 'image', 'report'], concurrency: 9, startedAt: 0 }
let cluster: RunningCluster
let queue: Queue
let now = Date.now()
beforeAll(async () => {
  cluster = await startCluster()
  queue = await openTestQueue(cluster.url, { clock: () => now })
  for (const type of WORKER.types) await queue.configureType(type, { declared: true })
})

const submit = async (...specs: Partial<TaskSpec>[]) =>
  (await queue.submit(specs.map((spec) => completeSpec({ type: 'mail', ...spec })))).map(({ task }) => task)
const sweep = async () => {
  for (let step = 0; step < 4; step++) while ((await queue.sweep(100)).more);
}
const finish = async (result: Json = 1) => {
  const { leases } = await queue.turn({ worker: WORKER, want: 9 })
  const outcome = { kind: 'success', result } as const
  await queue.turn({ worker: WORKER, want: 0, outcomes: leases.map(({ lease }) => ({ lease, outcome })) })
  return leases.map(({ task }) => task.id)
}
/** Takes keys away that fit a pattern, or all entries of streams, on whichever node they are, as a failover may. */
const lose = (pattern: string, isStream = false) => {
  let lost = 0
  for (const { port } of cluster.nodes) {
    for (const key of redisCli(port, 'KEYS', pattern).split('\n').filter(Boolean)) {
      lost += Number(isStream ? redisCli(port, 'XTRIM', key, 'MAXLEN', '0') : redisCli(port, 'DEL', key))
    }
  }
  return lost
}

it('the types of this test are in several partitions', async () => {
  const tasks = await submit({}, { type: 'image' }, { type: 'report' })
  const partitions = new Set(tasks.map(({ id }) => id.slice(28, 30)))
  expect(partitions.size).toBe(3)
  expect((await finish()).length).toBe(3)
})

it('an outcome that its partition cannot take is an error, although another partition has a task', async () => {
  await submit({})
  const { leases } = await queue.turn({ worker: WORKER, want: 1 })
  await submit({ type: 'image' })
  const keysOf = (port: number) => redisCli(port, 'KEYS', 'xq:*:leases').split('\n').filter(Boolean)
  const [[port, key]] = cluster.nodes.flatMap(({ port }) => keysOf(port).map((key) => [port, key])) as [
    [number, string],
  ]
  redisCli(port, 'RENAME', key, `${key}:kept`)
  redisCli(port, 'SET', key, 'damaged')
  const report = (some: readonly Lease[], want: number) => {
    const outcomes = some.map(({ lease }) => ({ lease, outcome: { kind: 'success', result: 1 } as const }))
    return queue.turn({ worker: WORKER, want, outcomes })
  }
  await expect(report(leases, 9)).rejects.toThrow('WRONGTYPE')
  redisCli(port, 'RENAME', `${key}:kept`, key)
  const answer = await report(leases, 9)
  expect(answer.settled).toEqual([{ accepted: true, status: 'success' }])
  expect(answer.leases.map(({ task }) => task.type)).toEqual(['image'])
  await report(answer.leases, 0)
})

it('an undelivered message is delivered later', async () => {
  const [first, second] = await submit({}, { type: 'image', after: [0] })
  await sweep()
  expect(await finish()).toEqual([first!.id])
  // Ends are published only by a sweep; until then the message waits where it was left.
  expect((await queue.explain(second!.id))!.waitsFor).toEqual([first!.id])
  await sweep()
  expect(await finish()).toEqual([second!.id])
})

it('an undelivered message keeps nothing of a task that is erased, and the others are unchanged', async () => {
  const undelivered = () =>
    cluster.nodes.flatMap(({ port }) =>
      redisCli(port, 'KEYS', '*:notices')
        .split('\n')
        .filter(Boolean)
        .map((key) => redisCli(port, 'XRANGE', key, '-', '+')),
    )
  const [erased, kept] = await submit({}, {}, { type: 'image', after: [0, 1] })
  await sweep()
  await finish('secret')
  expect(
    undelivered()
      .join('')
      .match(/secret/g),
  ).toHaveLength(2)
  await queue.erase([erased!.id])
  expect(
    undelivered()
      .join('')
      .match(/secret/g),
  ).toHaveLength(1)
  await sweep()
  const { leases } = await queue.turn({ worker: WORKER, want: 9 })
  expect(leases[0]!.predecessors).toMatchObject([
    { id: erased!.id, status: 'success', result: null },
    { id: kept!.id, status: 'success', result: 'secret' },
  ])
  const outcome = { kind: 'success', result: null } as const
  await queue.turn({ worker: WORKER, want: 0, outcomes: [{ lease: leases[0]!.lease, outcome }] })
})

it('a dependent task asks again for a message that a failover has lost', async () => {
  const [first, second] = await submit({}, { type: 'image', after: [0] })
  await sweep()
  expect(lose('*:successors:*') + lose('*:awaited')).toBeGreaterThan(1)
  expect(await finish()).toEqual([first!.id])
  await sweep()
  expect(await finish()).toEqual([])
  now += 10_000
  await sweep()
  expect(await finish()).toEqual([second!.id])
})

it('a dependent task does not wait for ever for a task that a failover has lost', async () => {
  const [first, second] = await submit({}, { type: 'report', after: [0] })
  await sweep()
  expect(lose('*:s:mail:0', true)).toBe(1)
  now += 10_000
  await sweep()
  const canceled = { status: 'canceled', error: canceledBecauseGone(first!.id) }
  expect(await queue.get([first!.id, second!.id])).toMatchObject([null, canceled])
})

it('a dependent task says which task of another partition failed, for which it was canceled', async () => {
  const [first, second] = await submit({ maxRetry: 0 }, { type: 'report', after: [0] })
  const { leases } = await queue.turn({ worker: WORKER, want: 1 })
  const outcome = { kind: 'failure', error: 'no', retry: false, delayMs: null } as const
  await queue.turn({ worker: WORKER, want: 0, outcomes: [{ lease: leases[0]!.lease, outcome }] })
  await sweep()
  const canceled = { status: 'canceled', error: canceledBecause(first!.id, 'failed') }
  expect(await queue.get([first!.id, second!.id])).toMatchObject([{ status: 'failed' }, canceled])
})

it('a dependent task on a single server asks again, because an older version of the program sends no message', async () => {
  const redis = await startRedis()
  const alone = await openQueue(redis.url, { clock: () => now })
  try {
    await alone.configureType('mail', { declared: true })
    const specs = [{}, { after: [0] }].map((spec) => completeSpec({ type: 'mail', ...spec }))
    const [, second] = await alone.submit(specs)
    const { leases } = await alone.turn({ worker: WORKER, want: 9 })
    redisCli(redis.port, 'DEL', 'xq:{0}:awaited')
    const outcome = { kind: 'success', result: 1 } as const
    await alone.turn({ worker: WORKER, want: 0, outcomes: [{ lease: leases[0]!.lease, outcome }] })
    expect((await alone.turn({ worker: WORKER, want: 9 })).leases).toEqual([])
    await alone.sweep(100)
    const again = await alone.turn({ worker: WORKER, want: 9 })
    expect(again.leases).toMatchObject([{ task: { id: second!.task.id }, predecessors: [{ result: 1 }] }])
  } finally {
    await alone.close()
    await redis.stop()
  }
})
