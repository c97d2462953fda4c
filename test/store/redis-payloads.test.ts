import { createClient } from '@redis/client'
import { beforeEach, expect, it } from 'vitest'
import type { Queue } from '../../src/queue/queue.ts'
import { PAYLOAD_APART_BYTES } from '../../src/store/redis/records/keys.ts'
import type { Outcome } from '../../src/task/outcome.ts'
import { completeSpec } from '../../src/task/task.ts'
import { closeAfterwards } from '../fixtures/closing.ts'
import { type RunningRedis, startRedis } from '../fixtures/redis.ts'
import { openTestQueue } from '../fixtures/server.ts'

/** Where Redis keeps long payloads, and what processes of two versions see of them. */

const WORKER = { id: 'w', host: 'h', pid: 1, types: ['a'], concurrency: 9, startedAt: 0 }
/** Stored with quotes, the first one is just long enough. */
const LONG = 'x'.repeat(PAYLOAD_APART_BYTES - 2)
const SHORT = LONG.slice(1)

let redis: RunningRedis
let client: ReturnType<typeof createClient>
let queue: Queue
const retention = { ageMs: 60_000, countMax: 100 }
const clock = { now: Date.now() }
beforeEach(async () => {
  redis = await startRedis()
  client = createClient({ url: redis.url })
  await client.connect()
  closeAfterwards(() => client.close())
  queue = await openTestQueue(redis.url, { retention, clock: () => clock.now, leaseMs: 10_000 })
  await queue.configureType('a', { declared: true })
})

const submit = async (payload: string, group: string | null = null) =>
  (await queue.submit([completeSpec({ type: 'a', payload, group })]))[0]!.task.id
const claim = async () => (await queue.turn({ worker: WORKER, want: 1 })).leases[0]!
const settle = (lease: string, outcome: Outcome) =>
  queue.turn({ worker: WORKER, want: 0, outcomes: [{ lease, outcome }] })
const succeed = (lease: string) => settle(lease, { kind: 'success', result: 1 })
const failure = { kind: 'failure', error: 'no', retry: true, delayMs: 1_000 } as const
const payloadOf = async (id: string) => (await queue.get([id]))[0]!.payload
const apart = () => client.keys('xq:{0}:payload:*')
const recordOf = async (hash: string) => Object.values(await client.hGetAll(`xq:{0}:${hash}`))[0]!
const finishedText = async () => (await client.get((await client.keys('xq:{0}:finished:*'))[0]!))!
const sweepAfter = async (ms: number) => {
  clock.now += ms
  while ((await queue.sweep(100)).more);
}

it('stores a long payload once when its task starts, and not in the records of its lease and its end', async () => {
  const id = await submit(LONG)
  expect(await apart()).toEqual([])
  const { lease } = await claim()
  const [key] = await apart()
  expect(await client.get(key!)).toBe(JSON.stringify(LONG))
  expect((await recordOf('leases')).length).toBeLessThan(300)
  await succeed(lease)
  expect((await finishedText()).length).toBeLessThan(300)
  expect(await payloadOf(id)).toBe(LONG)
})

it('stores a short payload in the records', async () => {
  await submit(SHORT)
  const { lease } = await claim()
  expect(await recordOf('leases')).toContain(SHORT)
  await succeed(lease)
  expect(await finishedText()).toContain(SHORT)
  expect(await apart()).toEqual([])
})

it.each([null, 'g'])(
  'returns a long payload to the record of a task that is to run again (group %s)',
  async (group) => {
    const id = await submit(LONG, group)
    await settle((await claim()).lease, failure)
    expect(await recordOf('delayed')).toContain(LONG)
    expect(await apart()).toEqual([])
    await sweepAfter(1_000)
    await settle((await claim()).lease, { ...failure, retry: false })
    await queue.retry({ ids: [id] })
    expect(await apart()).toEqual([])
    expect((await claim()).task.payload).toBe(LONG)
  },
)

it('deletes a long payload with its task: by retention, by erasure, and after a cancel', async () => {
  await submit(LONG)
  await succeed((await claim()).lease)
  await sweepAfter(60_001)
  expect(await apart()).toEqual([])
  const erased = await submit(LONG)
  await succeed((await claim()).lease)
  await queue.erase([erased])
  expect(await apart()).toEqual([])
  const canceled = await submit(LONG)
  await settle((await claim()).lease, { kind: 'released' })
  await queue.cancel({ ids: [canceled] })
  expect(await payloadOf(canceled)).toBe(LONG)
  await queue.erase([canceled])
  expect(await apart()).toEqual([])
})

it.each(['maintainer', 'keeper'])(
  'keeps long payloads in the records while an earlier version sweeps (%s)',
  async (key) => {
    await client.set(`xq:{0}:${key}`, 'a process')
    const before = await submit(LONG)
    const { lease } = await claim()
    expect(await recordOf('leases')).toContain(LONG)
    await succeed(lease)
    expect(await finishedText()).toContain(LONG)
    await queue.sweep(100)
    await client.del(`xq:{0}:${key}`)
    // It may come back: another one of that version takes over within seconds.
    await submit(LONG)
    await succeed((await claim()).lease)
    expect(await apart()).toEqual([])
    await sweepAfter(60_001)
    const after = await submit(LONG)
    await succeed((await claim()).lease)
    expect(await apart()).toHaveLength(1)
    expect(await payloadOf(after)).toBe(LONG)
    expect((await queue.get([before]))[0]).toBeNull()
  },
)

it('reads a long payload that an earlier version has left apart from a task that waits again', async () => {
  const id = await submit(LONG)
  await settle((await claim()).lease, failure)
  const [[ref, text] = []] = Object.entries(await client.hGetAll('xq:{0}:delayed'))
  const lines = text!.split('\n')
  await client.set(`xq:{0}:payload:${ref}`, lines[2]!)
  await client.hSet('xq:{0}:delayed', ref!, [lines[0], lines[1], '@', lines[3]].join('\n'))
  expect(await payloadOf(id)).toBe(LONG)
  await sweepAfter(1_000)
  expect(await payloadOf(id)).toBe(LONG)
  const { lease, task } = await claim()
  expect(task.payload).toBe(LONG)
  await settle(lease, { kind: 'released' })
  const again = await claim()
  expect(again.task.payload).toBe(LONG)
  await succeed(again.lease)
  expect(await payloadOf(id)).toBe(LONG)
})
