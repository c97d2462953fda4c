import { expect, it } from 'vitest'
import type { Changed, Queue } from '../../src/queue/queue.ts'
import { completeSpec } from '../../src/task/task.ts'
import { redisCli, startRedis } from '../fixtures/redis.ts'
import { openTestQueue } from '../fixtures/server.ts'

/** What changes of very many tasks cost Redis. */

const spec = completeSpec({ type: 'a' })

/** The number of look-ups in hashes, which each task that is examined needs. */
function lookUps(port: number): number {
  const [, calls] = /cmdstat_hget:calls=(\d+)/.exec(redisCli(port, 'info', 'commandstats')) ?? ['', '0']
  return Number(calls)
}

async function retryAll(queue: Queue): Promise<number> {
  let count = 0
  for (let before: Changed['next'] = null; ; ) {
    const { results, next }: Changed = await queue.retry({ filter: { type: 'a' }, ...(before && { before }) })
    count += results.length
    if (next === null) return count
    before = next
  }
}

it('retries and erases all of many tasks without examining any of them again and again', async () => {
  const redis = await startRedis()
  const queue = await openTestQueue(redis.url)
  await queue.configureType('a', { declared: true })
  const costs: number[] = []
  for (const thousands of [1, 8]) {
    const ids: string[] = []
    for (let n = 0; n < thousands; n++) {
      const submitted = await queue.submit(Array.from({ length: 1_000 }, () => spec))
      ids.push(...submitted.map(({ task }) => task.id))
    }
    await queue.cancel({ ids })
    const before = lookUps(redis.port)
    expect(await retryAll(queue)).toBe(ids.length)
    costs.push((lookUps(redis.port) - before) / ids.length)
    await queue.cancel({ ids })
    expect((await queue.erase(ids)).results.filter(({ outcome }) => outcome !== 'changed')).toEqual([])
  }
  const [few, many] = costs as [number, number]
  expect(many).toBeLessThan(few * 1.5)
})
