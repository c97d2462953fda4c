import { expect, it } from 'vitest'
import { completeSpec } from '../../src/task/task.ts'
import { startRedis } from '../fixtures/redis.ts'
import { openTestQueue } from '../fixtures/server.ts'

const WORKER = { id: 'w', host: 'h', pid: 1, types: ['t'], concurrency: 1, startedAt: 0 }

it('lets one process sweep, and no other one as long as that does', async () => {
  let now = 1_700_000_000_000
  const options = { clock: () => now, leaseMs: 1_000 }
  const { url } = await startRedis()
  const [first, second] = [await openTestQueue(url, options), await openTestQueue(url, options)]
  await first.configureType('t', { declared: true })
  await first.sweep(100)
  const [submitted] = await first.submit([completeSpec({ type: 't' })])
  await first.turn({ worker: WORKER, want: 1 })
  now += 1_000
  const status = async () => (await first.get([submitted!.task.id]))[0]!.status
  expect(await second.sweep(100)).toEqual({ changed: 0, more: false, nextAt: null })
  expect(await status()).toBe('processing')
  expect(await first.sweep(100)).toMatchObject({ changed: 1 })
  expect(await status()).toBe('pending')
})
