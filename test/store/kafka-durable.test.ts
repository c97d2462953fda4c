import { expect, it, vi } from 'vitest'
import type { Outcome } from '../../src/task/outcome.ts'
import { completeSpec } from '../../src/task/task.ts'
import { closeAfterwards } from '../fixtures/closing.ts'
import { startKafka } from '../fixtures/kafka.ts'
import { startRedis } from '../fixtures/redis.ts'
import { openTestQueue } from '../fixtures/server.ts'

const WORKER = { id: 'w', host: 'h', pid: 1, types: ['t'], concurrency: 9, startedAt: 0 }

it('answers a durable outcome after Kafka has stored it, and other turns before', async () => {
  const [kafka, redis] = await Promise.all([startKafka(), startRedis()])
  const queue = await openTestQueue(`kafka://${kafka.address}?partitions=1&state=${redis.url}`)
  await queue.configureType('t', { declared: true })
  const [submitted] = await queue.submit(Array.from({ length: 3 }, () => completeSpec({ type: 't' })))
  const { leases } = await queue.turn({ worker: WORKER, want: 3, waitMs: 20_000 })
  const [broker] = kafka.brokers
  broker!.signal('SIGSTOP')
  closeAfterwards(() => broker!.signal('SIGCONT'))
  const settle = (index: number, outcome: Outcome, durable: boolean) =>
    queue.turn({ worker: WORKER, want: 0, outcomes: [{ lease: leases[index]!.lease, outcome }], durable })
  let answered = false
  const answer = settle(0, { kind: 'success', result: 1 }, true).finally(() => (answered = true))
  await vi.waitFor(async () => {
    expect(await queue.get([submitted!.task.id])).toMatchObject([{ status: 'success' }])
  }, 20_000)
  expect((await settle(1, { kind: 'success', result: 2 }, false)).settled).toMatchObject([{ status: 'success' }])
  expect((await settle(2, { kind: 'released' }, true)).settled).toMatchObject([{ status: 'pending' }])
  // The event of the outcome is read in the meantime.
  const { last } = await queue.events({ after: null, max: 1 })
  for (let times = 0; times < 20; times++) await queue.events({ after: last, max: 1, waitMs: 50 })
  expect(answered).toBe(false)
  broker!.signal('SIGCONT')
  expect((await answer).settled).toEqual([{ accepted: true, status: 'success' }])
})

it('keeps no task for a turn that fails because Kafka does not store its outcome', async () => {
  const [kafka, redis] = await Promise.all([startKafka(), startRedis()])
  const queue = await openTestQueue(`kafka://${kafka.address}?partitions=1&wait_ms=500&state=${redis.url}`)
  await queue.configureType('t', { declared: true })
  const [, other] = await queue.submit([completeSpec({ type: 't' }), completeSpec({ type: 't' })])
  const { leases } = await queue.turn({ worker: WORKER, want: 1, waitMs: 20_000 })
  const [broker] = kafka.brokers
  broker!.signal('SIGSTOP')
  closeAfterwards(() => broker!.signal('SIGCONT'))
  const outcomes = [{ lease: leases[0]!.lease, outcome: { kind: 'success', result: 1 } as const }]
  const turn = queue.turn({ worker: WORKER, want: 1, outcomes, durable: true })
  await expect(turn).rejects.toMatchObject({ code: 'engine_unavailable' })
  expect(await queue.get([other!.task.id])).toMatchObject([{ status: 'pending', attempts: 0, deliveries: 1 }])
})

it('answers the run of a schedule after Kafka has stored its task', async () => {
  const [kafka, redis] = await Promise.all([startKafka(), startRedis()])
  const queue = await openTestQueue(`kafka://${kafka.address}?partitions=1&state=${redis.url}`)
  await queue.configureType('t', { declared: true })
  const { delayMs: _, runAt: __, idempotencyKey: ___, ...task } = completeSpec({ type: 't' })
  const rest = { catchUp: 'one', overlap: 'allow', paused: false } as const
  await queue.schedules({ add: { id: 's', task, timing: { everyMs: 3_600_000 }, ...rest } })
  const [broker] = kafka.brokers
  broker!.signal('SIGSTOP')
  closeAfterwards(() => broker!.signal('SIGCONT'))
  let answered = false
  const answer = queue.schedules({ run: 's' }).finally(() => (answered = true))
  await vi.waitFor(async () => expect((await queue.list({ limit: 1 })).tasks).toHaveLength(1), 20_000)
  const { last } = await queue.events({ after: null, max: 1 })
  for (let times = 0; times < 20; times++) await queue.events({ after: last, max: 1, waitMs: 50 })
  expect(answered).toBe(false)
  broker!.signal('SIGCONT')
  await answer
})
