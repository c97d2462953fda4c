import { createClient } from '@redis/client'
import { afterEach, beforeEach, expect, it } from 'vitest'
import type { Engine } from '../../src/engine/engine.ts'
import { openEngine } from '../../src/engine/open.ts'
import { completeSpec } from '../../src/task/task.ts'
import { type RunningRedis, startRedis } from '../services/redis.ts'

const WORKER = { id: 'w', host: 'h', pid: 1, types: ['a'], concurrency: 9, startedAt: 0 }

let redis: RunningRedis
let engine: Engine
beforeEach(async () => {
  redis = await startRedis()
  engine = await openEngine(redis.url)
  await engine.configureType('a', { declared: true })
})
afterEach(async () => {
  await engine.close()
  await redis.stop()
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
  const [submitted] = await engine.submit([completeSpec({ type: 'a' })])
  await engine.turn({ worker: WORKER, want: 1 })
  const lease = `${submitted!.task.id}.${await asBefore()}`
  const other = await openEngine(redis.url)
  const { renewed } = await other.turn({ worker: WORKER, want: 0, renewals: [{ lease }] })
  expect(renewed[0]).toMatchObject({ cancelRequested: false })
  const outcomes = [{ lease, outcome: { kind: 'success', result: 1 } as const }]
  expect((await other.turn({ worker: WORKER, want: 0, outcomes })).settled).toEqual([
    { accepted: true, status: 'success' },
  ])
  await other.close()
})
