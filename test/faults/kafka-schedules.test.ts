import { Consumer, Producer } from '@platformatic/kafka'
import { beforeAll, beforeEach, expect, it, vi } from 'vitest'
import { createQueue } from '../../src/queue/create-queue.ts'
import { readNamed } from '../../src/queue/event-reader.ts'
import { QUEUE_DEFAULTS, type Queue } from '../../src/queue/queue.ts'
import { parseKafkaUrl } from '../../src/store/kafka/client/kafka-url.ts'
import { READER } from '../../src/store/kafka/events/relay.ts'
import { KafkaStore } from '../../src/store/kafka/kafka-store.ts'
import { RedisStore } from '../../src/store/redis/redis-store.ts'
import { type ScheduleSpec, tickKey } from '../../src/task/schedule.ts'
import { completeSpec } from '../../src/task/task.ts'
import { closeAfterwards } from '../fixtures/closing.ts'
import { type RunningKafka, startKafka } from '../fixtures/kafka.ts'
import { type RunningRedis, redisCli, startRedis } from '../fixtures/redis.ts'
import { openTestQueue } from '../fixtures/server.ts'

const MINUTE = 60_000
const WORKER = { id: 'w1', host: 'h', pid: 1, types: ['t'], concurrency: 9, startedAt: 0 }

let now: number
let kafka: RunningKafka
let redis: RunningRedis
let queue: Queue
beforeAll(async () => {
  ;[kafka, redis] = await Promise.all([startKafka(), startRedis()])
})
let tests = 0
beforeEach(async () => {
  now = 1_700_000_040_000
  tests += 1
  queue = await openTestQueue(url(), { clock: () => now })
  await queue.configureType('t', { declared: true })
})

const stateUrl = () => `${redis.url}?prefix=test${tests}`
const url = () => `kafka://${kafka.address}?prefix=test${tests}&partitions=2&state=${stateUrl()}`
const topic = () => `test${tests}.schedules`
const add = (id: string, more: Partial<ScheduleSpec> = {}) => {
  const { delayMs: _, runAt: __, idempotencyKey: ___, ...task } = completeSpec({ type: 't', queueTimeoutMs: 0 })
  const rest = { timing: { everyMs: MINUTE }, catchUp: 'all', overlap: 'allow', paused: false } as const
  return queue.schedules({ add: { id, task, ...rest, ...more } })
}
const sweep = async () => {
  while ((await queue.sweep(100)).more);
}
const keys = async () => {
  const { tasks } = await queue.list({ limit: 100 })
  return tasks.map(({ idempotencyKey }) => idempotencyKey).sort()
}
const client = () => ({ clientId: 'test', bootstrapBrokers: [kafka.address] })
/** All values of the topic of schedules, which has one partition; null for those that drop a key. */
async function records(): Promise<unknown[]> {
  const consumer = new Consumer({ ...client(), groupId: `test-${Math.random()}` })
  const [end = 0n] = (await consumer.listOffsets({ topics: [topic()] })).get(topic())!
  const stream = await consumer.consume({ topics: [topic()], mode: 'earliest', autocommit: false, maxWaitTime: 100 })
  const values: unknown[] = []
  if (end > 0n) {
    for await (const { value, offset } of stream) {
      values.push(value ? JSON.parse(value.toString()) : null)
      if (offset + 1n >= end) break
    }
  }
  await consumer.close(true)
  return values
}
async function drop(key: string): Promise<void> {
  const producer = new Producer({ ...client() })
  // A tombstone: no value at all.
  await producer.send({ messages: [{ topic: topic(), key: Buffer.from(key) }], acks: -1 })
  await producer.close()
}

it('writes the tasks of ticks to the log, and restores schedules with their position after the state has lost them', async () => {
  await add('a')
  await add('dropped')
  await queue.schedules({ drop: 'dropped' })
  await add('b', { paused: true })
  await queue.schedules({ alter: 'b', to: { task: { type: 't', priority: 4 } } })
  for (let minute = 0; minute < 2; minute++) {
    now += MINUTE
    await sweep()
  }
  const ticks = [now - MINUTE, now].map((tick) => tickKey('a', tick))
  expect(await keys()).toEqual(ticks)
  // What has ended before the loss does not run again.
  const { leases } = await queue.turn({ worker: WORKER, want: 1 })
  const outcome = { kind: 'success', result: 1 } as const
  await queue.turn({ worker: WORKER, want: 0, outcomes: [{ lease: leases[0]!.lease, outcome }], durable: true })
  const before = await queue.schedules()
  expect(before.map(({ id, lastAt, nextAt }) => [id, lastAt, nextAt])).toEqual([
    ['a', now, now + MINUTE],
    ['b', null, null],
  ])

  redisCli(redis.port, 'FLUSHALL')
  await vi.waitFor(async () => expect(await queue.schedules()).toEqual(before), { timeout: 20_000, interval: 100 })
  await vi.waitFor(async () => expect((await queue.health()).checks.every(({ ok }) => ok)).toBe(true), 20_000)
  await sweep()
  expect(await keys()).toEqual(ticks)
  expect((await queue.list({ limit: 9, status: 'success' })).tasks.map(({ id }) => id)).toEqual([leases[0]!.task.id])
  now += MINUTE
  await sweep()
  expect(await keys()).toEqual([...ticks, tickKey('a', now)])
})

it('keeps the log equal to the state although a process writes later than another', async () => {
  for (const id of ['changed', 'dropped', 'added-again']) await add(id)
  // It is stopped between the state's answer and the log.
  const options = { ...QUEUE_DEFAULTS, clock: () => now }
  const state = await RedisStore.open(stateUrl(), { ...options, isState: true })
  const goesOn = Promise.withResolvers<void>()
  const step = state.documents.bind(state)
  state.documents = async (asked) => {
    const answer = await step(asked)
    if (asked.changes?.[0]?.kind === 'schedule') await goesOn.promise
    return answer
  }
  const slow = createQueue(await KafkaStore.open(parseKafkaUrl(url()), options, state, readNamed(state)))
  const to = (priority: number) => ({ task: { type: 't', priority } })
  const late = [
    slow.schedules({ alter: 'changed', to: to(1) }),
    slow.schedules({ alter: 'dropped', to: to(1) }),
    slow.schedules({ drop: 'added-again' }),
  ]
  const seen = async () => (await queue.schedules()).map(({ id, task }) => `${id} ${task.priority}`)
  await vi.waitFor(async () => expect(await seen()).toEqual(['changed 1', 'dropped 1']), 10_000)
  await queue.schedules({ alter: 'changed', to: to(2) })
  await queue.schedules({ drop: 'dropped' })
  await add('added-again')
  goesOn.resolve()
  await Promise.all(late)
  await slow.close()
  expect(await seen()).toEqual(['added-again 0', 'changed 2'])

  redisCli(redis.port, 'FLUSHALL')
  await vi.waitFor(async () => expect((await queue.schedules()).length).toBeGreaterThan(0), 20_000)
  await vi.waitFor(async () => expect((await queue.health()).checks.every(({ ok }) => ok)).toBe(true), 20_000)
  expect(await seen()).toEqual(['added-again 0', 'changed 2'])
})

it('writes the tasks of ticks and the ends of tasks whose events were deleted before they were in the log', async () => {
  tests += 1
  const options = { clock: () => now, eventsMax: 5 }
  queue = await openTestQueue(url(), options)
  await queue.configureType('t', { declared: true })
  // Another process is to write the events, and does not.
  const state = await RedisStore.open(stateUrl(), { ...QUEUE_DEFAULTS, ...options, isState: true })
  closeAfterwards(() => state.close())
  const relay = (leaseMs: number) =>
    readNamed(state)({ after: null, max: 1 }, { name: READER, owner: 'another', leaseMs, resumes: true })
  await vi.waitFor(async () => {
    now += MINUTE
    expect((await relay(60 * MINUTE)).held).toBe(true)
  }, 20_000)
  const { last } = await state.events({ after: null, max: 1 })
  await add('a')
  const [ended] = await queue.submit([completeSpec({ type: 't' })])
  const { leases } = await queue.turn({ worker: WORKER, want: 1, waitMs: 20_000 })
  const outcome = { kind: 'success', result: 1 } as const
  await queue.turn({ worker: WORKER, want: 0, outcomes: [{ lease: leases[0]!.lease, outcome }] })
  now += MINUTE
  await sweep()
  const [tick] = (await queue.list({ limit: 1 })).tasks
  await queue.submit(Array.from({ length: 9 }, () => completeSpec({ type: 't' })))
  await sweep()
  expect((await state.events({ after: last, max: 9 })).gap).toBe(true)
  await relay(0)
  const end = (await state.events({ after: null, max: 1 })).last
  await vi.waitFor(async () => expect(await state.hasRead(READER, end)).toBe(true), 20_000)

  redisCli(redis.port, 'FLUSHALL')
  await vi.waitFor(async () => {
    const tasks = await queue.get([ended!.task.id, tick!.id])
    expect(tasks).toMatchObject([{ status: 'success', result: 1 }, { idempotencyKey: tickKey('a', now) }])
  }, 20_000)
})

it('creates no second task for a tick whose task is in the log, although the new position of the schedule is not', async () => {
  await add('a')
  now += MINUTE
  await sweep()
  const [task] = (await queue.list({ limit: 9 })).tasks
  await vi.waitFor(async () => expect(await records()).toContainEqual({ schedule: 'a', at: now, task: task!.id }))
  // The last tick as it was before.
  await drop('a last')
  expect((await records()).at(-1)).toBeNull()
  redisCli(redis.port, 'FLUSHALL')
  await vi.waitFor(async () => expect(await queue.schedules()).toHaveLength(1), { timeout: 20_000, interval: 100 })
  // The engine may have seen by itself that it is due.
  await sweep()
  expect((await queue.schedules())[0]).toMatchObject({ lastTaskId: task!.id, nextAt: now + MINUTE })
  expect((await queue.list({ limit: 9 })).tasks.map(({ id }) => id)).toEqual([task!.id])
})
