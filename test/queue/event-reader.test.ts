import { expect, it } from 'vitest'
import { createQueue } from '../../src/queue/create-queue.ts'
import { readNamed } from '../../src/queue/event-reader.ts'
import { openStore } from '../../src/store/open.ts'
import { completeSpec } from '../../src/task/task.ts'
import { startRedis } from '../fixtures/redis.ts'

it('commits a position and renews the lease in one step of the store', async () => {
  const redis = await startRedis()
  const store = await openStore(redis.url, {}, readNamed)
  const queue = createQueue(store)
  await queue.configureType('t', { declared: true })
  let steps = 0
  const documents = store.documents.bind(store)
  store.documents = (step) => {
    steps += 1
    return documents(step)
  }
  const read = (after: string | null, owner = 'a') =>
    queue.events({ after, max: 10, reader: { name: 'r', owner, leaseMs: 30_000 } })
  const { last } = await read(null)
  expect(steps).toBe(2)
  const [submitted] = await queue.submit([completeSpec({ type: 't' })])
  const page = await read(last)
  expect(page.events.map(({ taskId }) => taskId)).toEqual([submitted!.task.id])
  expect((await read(page.last)).held).toBe(true)
  expect(steps).toBe(4)
  expect((await read(null, 'b')).held).toBe(false)
  expect(steps).toBe(5)
  await queue.close()
})
