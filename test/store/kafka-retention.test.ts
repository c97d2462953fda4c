import { execFileSync } from 'node:child_process'
import { beforeAll, expect, it, vi } from 'vitest'
import type { Queue } from '../../src/queue/queue.ts'
import { completeSpec } from '../../src/task/task.ts'
import { type RunningKafka, startKafka } from '../fixtures/kafka.ts'
import { type RunningRedis, redisCli, startRedis } from '../fixtures/redis.ts'
import { openTestQueue } from '../fixtures/server.ts'

const WORKER = { id: 'w', host: 'h', pid: 1, types: ['kept', 'short'], concurrency: 10, startedAt: 0 }
const DAY_MS = 86_400_000
let kafka: RunningKafka
let redis: RunningRedis
let queue: Queue
beforeAll(async () => {
  ;[kafka, redis] = await Promise.all([startKafka(), startRedis()])
  const retention = { ageMs: 1, countMax: 100 }
  queue = await openTestQueue(`kafka://${kafka.address}?partitions=1&state=${redis.url}`, { retention })
})

const until = (isSo: () => unknown) => vi.waitFor(isSo, { timeout: 30_000, interval: 100 })

it('restores finished tasks that a type keeps for longer than others, with its settings', async () => {
  await queue.configureType('short', { declared: true })
  await queue.configureType('kept', { declared: true, retention: { success: 1, failed: 9 } })
  await queue.configureType('kept', { retention: { success: 30 * DAY_MS } })
  const [kept, short] = await queue.submit(WORKER.types.map((type) => completeSpec({ type })))
  const { leases } = await queue.turn({ worker: WORKER, want: 2 })
  const outcomes = leases.map(({ lease }) => ({ lease, outcome: { kind: 'success', result: 1 } as const }))
  await queue.turn({ worker: WORKER, want: 0, outcomes, leaving: true })
  const reported = () => {
    const args = ['-C', '-b', kafka.address, '-t', 'xq.outcomes', '-o', 'beginning', '-e', '-q', '-K', ' ']
    return execFileSync('kcat', args, { encoding: 'utf8' })
  }
  await until(() => expect(reported()).toContain(kept!.task.id))
  await until(() => expect(reported()).toContain(short!.task.id))
  redisCli(redis.port, 'FLUSHALL')
  await until(async () => {
    await queue.sweep(100)
    expect(await queue.get([kept!.task.id, short!.task.id])).toMatchObject([{ status: 'success', result: 1 }, null])
  })
  const [info] = await queue.types({ names: ['kept'] })
  expect(info!.retention).toEqual({ set: { success: 30 * DAY_MS, failed: 9 }, handler: {} })
})

it('restores the tasks that are kept longest if not all have room', async () => {
  const retention = { ageMs: 1, countMax: 2 }
  const url = `kafka://${kafka.address}?partitions=1&prefix=few&state=${redis.url}?prefix=few`
  const few = await openTestQueue(url, { retention })
  await few.configureType('kept', { declared: true, retention: { success: 30 * DAY_MS } })
  await few.configureType('short', { declared: true, retention: { success: DAY_MS } })
  const ids: string[] = []
  for (const type of ['kept', 'short', 'short']) {
    ids.push((await few.submit([completeSpec({ type })]))[0]!.task.id)
    const { leases } = await few.turn({ worker: WORKER, want: 1, waitMs: 20_000 })
    const outcomes = leases.map(({ lease }) => ({ lease, outcome: { kind: 'success', result: 1 } as const }))
    await few.turn({ worker: WORKER, want: 0, outcomes, durable: true })
  }
  redisCli(redis.port, 'FLUSHALL')
  await until(async () => {
    const tasks = await few.get(ids)
    expect(tasks.map((task) => task?.status ?? null)).toEqual(['success', null, 'success'])
  })
})
