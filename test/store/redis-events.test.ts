import { readdirSync, statSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import type { Queue } from '../../src/queue/queue.ts'
import { completeSpec } from '../../src/task/task.ts'
import { type RunningRedis, redisCli, startRedis } from '../fixtures/redis.ts'
import { openTestQueue } from '../fixtures/server.ts'

let redis: RunningRedis
let queue: Queue

const aofSize = () => statSync(aof()).size
const aof = () => {
  const folder = join(redis.folder, 'appendonlydir')
  return join(folder, readdirSync(folder).find((name) => name.endsWith('.incr.aof'))!)
}
const submit = async (count: number) => {
  const spec = completeSpec({ type: 'a', payload: null })
  const submitted = await queue.submit(Array.from({ length: count }, () => spec))
  return submitted.map(({ task }) => task.id)
}
const eventsAfter = async (after: string) => {
  const page = await queue.events({ after, max: 1_000 })
  return { ...page, ids: page.events.map(({ taskId }) => taskId) }
}
/** Redis ends, and starts again with what it had at an earlier moment. */
const goBackTo = async (size: number) => {
  await redis.kill()
  truncateSync(aof(), size)
  await redis.start()
}

it('reuses no position of a lost event', async () => {
  redis = await startRedis('--appendonly', 'yes', '--appendfsync', 'always')
  queue = await openTestQueue(redis.url)
  await queue.configureType('a', { declared: true })
  const kept = await submit(3)
  const size = aofSize()
  await submit(5)
  const { last } = await eventsAfter('')
  await goBackTo(size)
  // More than were lost, so that counting on would pass the position of the reader.
  const young = await submit(10)
  expect(await eventsAfter(last)).toMatchObject({ ids: young, gap: false })
  expect(await eventsAfter('')).toMatchObject({ ids: [...kept, ...young], gap: false })
})

it('keeps the configured number of events, however often it restarts', async () => {
  redis = await startRedis('--appendonly', 'yes', '--appendfsync', 'always')
  queue = await openTestQueue(redis.url, { eventsMax: 10 })
  await queue.configureType('a', { declared: true })
  const ids: string[] = []
  const places: string[] = []
  for (let round = 0; round < 4; round++) {
    for (let index = 0; index < 4; index++) {
      ids.push(...(await submit(1)))
      places.push((await eventsAfter('')).last)
    }
    await goBackTo(aofSize())
    await queue.sweep(100)
    expect((await eventsAfter('')).ids).toEqual(ids.slice(-10))
  }
  expect(await eventsAfter(places.at(-11)!)).toMatchObject({ ids: ids.slice(-10), gap: false })
  expect(await eventsAfter(places.at(-12)!)).toMatchObject({ ids: ids.slice(-10), gap: true })
})

it('reports a gap to a reader from before each of several losses of everything', async () => {
  redis = await startRedis()
  let now = 1_700_000_000_000
  queue = await openTestQueue(redis.url, { clock: () => now })
  for (let loss = 0; loss < 3; loss++) {
    await queue.configureType('a', { declared: true })
    await submit(2)
    const { last } = await eventsAfter('')
    redisCli(redis.port, 'FLUSHALL')
    now += 1_000
    await queue.configureType('a', { declared: true })
    const young = await submit(4)
    expect(await eventsAfter(last)).toMatchObject({ gap: true })
    expect(await eventsAfter('')).toMatchObject({ ids: young, gap: false })
    redisCli(redis.port, 'FLUSHALL')
  }
})

it('reads all steps that a page needs, though Redis reads some at a time', async () => {
  redis = await startRedis()
  queue = await openTestQueue(redis.url)
  await queue.configureType('a', { declared: true })
  const ids = []
  for (let steps = 0; steps < 60; steps++) ids.push(...(await submit(1)))
  expect((await eventsAfter('')).ids).toEqual(ids)
})
