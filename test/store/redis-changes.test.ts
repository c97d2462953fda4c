import { expect, it } from 'vitest'
import type { Changed, Queue } from '../../src/queue/queue.ts'
import type { TaskFilter } from '../../src/store/store.ts'
import { completeSpec } from '../../src/task/task.ts'
import { redisCli, startRedis } from '../fixtures/redis.ts'
import { openTestQueue } from '../fixtures/server.ts'
import { SeededRandom } from '../simulation/random.ts'

/** What changes and lists of very many tasks cost Redis. */

const spec = completeSpec({ type: 'a' })

/** How often a command was called; each task that is examined needs a look-up in hashes. */
function callsOf(port: number, command = 'hget'): number {
  const stats = redisCli(port, 'info', 'commandstats')
  return Number(new RegExp(`cmdstat_${command}:calls=(\\d+)`).exec(stats)?.[1] ?? 0)
}

async function changeAll(queue: Queue, change: 'cancel' | 'retry', filter: TaskFilter): Promise<number> {
  let count = 0
  for (let before: Changed['next'] = null; ; ) {
    const { results, next }: Changed = await queue[change]({ filter, ...(before === null ? {} : { before }) })
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
    const before = callsOf(redis.port)
    expect(await changeAll(queue, 'retry', { type: 'a' })).toBe(ids.length)
    costs.push((callsOf(redis.port) - before) / ids.length)
    await queue.cancel({ ids })
    expect((await queue.erase(ids)).results.filter(({ outcome }) => outcome !== 'changed')).toEqual([])
  }
  const [few, many] = costs as [number, number]
  expect(many).toBeLessThan(few * 1.5)
})

it('cancels all waiting tasks of a tag, beside others and in many groups, without examining them again and again', async () => {
  const redis = await startRedis()
  const queue = await openTestQueue(redis.url)
  await queue.configureType('a', { declared: true })
  const tag = { key: 'k', value: 'v' }
  const costs: number[] = []
  for (const thousands of [2, 16]) {
    for (let n = 0; n < thousands; n++) {
      const groupOf = (index: number) => (index % 3 === 0 ? `g${index % 30}` : null)
      await queue.submit(Array.from({ length: 1_000 }, (_, at) => ({ ...spec, group: groupOf(at) })))
      await queue.submit(Array.from({ length: 500 }, (_, at) => ({ ...spec, group: groupOf(at), tags: { k: 'v' } })))
      await queue.submit(Array.from({ length: 500 }, () => ({ ...spec, delayMs: 60_000, tags: { k: 'v' } })))
    }
    const before = callsOf(redis.port)
    expect(await changeAll(queue, 'cancel', { tag })).toBe(thousands * 1_000)
    costs.push((callsOf(redis.port) - before) / thousands)
    expect(await changeAll(queue, 'cancel', {})).toBe(thousands * 1_000)
  }
  const [few, many] = costs as [number, number]
  // A search of several calls goes through the tasks once more at its end.
  expect(many).toBeLessThan(few * 2)
})

it('lists the waiting tasks of many groups together by age, on pages of any size', async () => {
  const redis = await startRedis()
  const queue = await openTestQueue(redis.url)
  await queue.configureType('a', { declared: true })
  const random = new SeededRandom(7)
  const ids: string[] = []
  // Long runs of one group, so that parts of the lane end far apart.
  for (let n = 0; n < 60; n++) {
    const group = random.chance(0.3) ? null : `g${random.between(0, 12)}`
    const submitted = await queue.submit(Array.from({ length: random.between(1, 60) }, () => ({ ...spec, group })))
    ids.push(...submitted.map(({ task }) => task.id))
  }
  for (const limit of [7, 100, 1_000]) {
    const listed: string[] = []
    for (let cursor: string | null | undefined; cursor !== null; ) {
      const page = await queue.list({ status: 'pending', limit, bare: true, ...(cursor && { cursor }) })
      listed.push(...page.tasks.map(({ id }) => id))
      cursor = page.nextCursor
    }
    expect(listed).toEqual(ids)
  }
})

it('passes tasks of later times in one step of a list', async () => {
  const redis = await startRedis()
  let now = 1e12
  const queue = await openTestQueue(redis.url, { clock: () => now })
  await queue.configureType('a', { declared: true })
  const [old] = await queue.submit([spec])
  for (; now < 1e12 + 100; now++) await queue.submit([spec])
  const { tasks } = await queue.list({ createdBefore: old!.task.createdAt + 1, limit: 10 })
  expect(tasks).toHaveLength(2)
  expect(callsOf(redis.port, 'xrevrange')).toBe(1)
})
