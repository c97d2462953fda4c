import { randomBytes } from 'node:crypto'
import { beforeAll, expect, it, vi } from 'vitest'
import type { Queue } from '../../src/queue/queue.ts'
import { completeSpec } from '../../src/task/task.ts'
import { type RunningKafka, startKafka } from '../fixtures/kafka.ts'
import { type RunningRedis, redisCli, startRedis } from '../fixtures/redis.ts'
import { openTestQueue } from '../fixtures/server.ts'

const WORKER = { id: 'w', host: 'h', pid: 1, types: ['t', 'u'], concurrency: 10, startedAt: 0 }
let kafka: RunningKafka
let redis: RunningRedis
let queue: Queue
beforeAll(async () => {
  ;[kafka, redis] = await Promise.all([startKafka(), startRedis()])
  queue = await openTestQueue(`kafka://${kafka.address}?partitions=1&state=${redis.url}`)
})

const until = (isSo: () => unknown) => vi.waitFor(isSo, { timeout: 30_000, interval: 100 })
const retry = { baseMs: 1_000, factor: 2, capMs: 60_000, jitter: 0 }
const settings = { maxConcurrency: null, groupConcurrency: null, rate: null, payloadSchema: null, defaults: {} }

it('restores named limits and what tasks use after the state has lost everything', async () => {
  const declared = { net: { max: 3, rate: null }, disk: { max: 4, rate: null } }
  await queue.declareHandlers(new Map([['t', { ...settings, retry, limits: declared }]]))
  await queue.configureType('u', { declared: true })
  await queue.configureLimit('net', { max: 5 })
  await queue.configureLimit('tenant/*', { max: 1, rate: { max: 7, perMs: 1_000 } })
  await queue.configureLimit('tenant/big', { paused: true })
  await queue.configureLimit('gone', { max: 1 })
  await queue.configureLimit('gone', { remove: true })
  await queue.configureLimit('group:t/acme', { max: 2 })
  const uses = { net: 2, 'tenant/a': 1 }
  const [first, second] = await queue.submit(
    ['t', 'u'].map((type) => completeSpec({ type, uses, group: 'acme', idempotencyKey: type })),
  )
  const [later] = await queue.submit([completeSpec({ type: 't', uses, after: [first!.task.id] })])
  redisCli(redis.port, 'FLUSHALL')
  await until(async () => expect((await queue.get([later!.task.id]))[0]).not.toBeNull())
  expect(await queue.limits()).toMatchObject([
    { name: 'disk', max: 4, setByOperator: { max: false } },
    { name: 'group:t/acme', max: 2 },
    { name: 'net', max: 5, setByOperator: { max: true } },
    { name: 'tenant/*', max: 1, rate: { max: 7, perMs: 1_000 } },
    { name: 'tenant/big', max: 1, paused: true },
  ])
  expect(await queue.get([first!.task.id, second!.task.id, later!.task.id])).toMatchObject([
    { uses, group: 'acme' },
    { uses, group: 'acme' },
    { uses, group: null, after: [first!.task.id] },
  ])
  const started: string[] = []
  for (let turns = 0; turns < 3; turns++) {
    const { leases } = await queue.turn({ worker: WORKER, want: 9 })
    expect(leases).toHaveLength(1)
    started.push(leases[0]!.task.id)
    const outcomes = leases.map(({ lease }) => ({ lease, outcome: { kind: 'success', result: null } as const }))
    await queue.turn({ worker: WORKER, want: 0, outcomes, durable: true })
  }
  expect(new Set(started)).toEqual(new Set([first, second, later].map((one) => one!.task.id)))
  // What they have used is known from their outcomes as well.
  redisCli(redis.port, 'FLUSHALL')
  await until(async () => {
    expect((await queue.get([second!.task.id]))[0]).toMatchObject({ status: 'success', uses, group: 'acme' })
  })
  await until(() => queue.configureLimit('net', { remove: true }))
})

it('accepts a call whose tasks do not fit one request to Kafka', async () => {
  await queue.configureType('t', { declared: true })
  const specs = Array.from({ length: 120 }, () =>
    completeSpec({ type: 't', payload: randomBytes(75_000).toString('base64') }),
  )
  expect(await queue.submit(specs)).toHaveLength(specs.length)
})
