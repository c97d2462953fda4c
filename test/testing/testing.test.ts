import { afterEach, beforeEach, expect, it } from 'vitest'
import { z } from 'zod'
import { defineHandlers, type TaskWith } from '../../src/index.ts'
import { createTestQueue, type TestQueue } from '../../src/testing.ts'

let runs = 0
const handlers = defineHandlers({
  square: {
    payload: z.object({ side: z.number(), unit: z.string().default('m') }),
    run: ({ payload }) => ({ area: payload.side ** 2, unit: payload.unit }),
  },
  flaky: {
    maxRetry: 2,
    retry: { base: '10s', factor: 6 },
    run: () => {
      runs += 1
      throw new Error(`no ${runs}`)
    },
  },
  slow: { concurrency: 1, run: ({ payload }: TaskWith<number>) => new Promise((done) => setTimeout(done, payload)) },
  sum: {
    run: (_task, { predecessors }) =>
      predecessors.reduce((sum, { result }) => sum + ((result as { area: number } | null)?.area ?? 0), 0),
  },
  stuck: { processTimeout: '5m', maxRetry: 0, run: () => new Promise<void>(() => undefined) },
})
let queue: TestQueue<typeof handlers>

beforeEach(async () => {
  runs = 0
  queue = await createTestQueue(handlers, { startAt: new Date('2026-01-01T00:00:00Z'), patience: '50ms' })
})
afterEach(() => queue.close())

it('keeps the types of the handlers', async () => {
  const task = await queue.submit('square', { side: 3 })
  await queue.runUntilIdle()
  const { area } = await queue.result(task)
  const typed: number = area
  expect(typed).toBe(9)
  // @ts-expect-error: it is a number
  await expect(queue.submit('square', { side: '3' })).rejects.toMatchObject({ code: 'invalid_payload' })
  // @ts-expect-error: there is no such handler
  await expect(queue.submit('cube', {})).rejects.toMatchObject({ code: 'unknown_type' })
})

it('moves the clock from one retry to the next', async () => {
  const task = await queue.submit('flaky', undefined as never)
  await queue.runUntilIdle()
  expect(await queue.get(task)).toMatchObject({ status: 'failed', attempts: 3 })
  expect(queue.now().getTime() - Date.parse('2026-01-01T00:00:00Z')).toBe(10_000 + 60_000)
  const started = (await queue.history(task)).filter(({ status }) => status === 'processing')
  expect(started.map(({ timestamp }) => timestamp.getTime() - started[0]!.timestamp.getTime())).toEqual([
    0, 10_000, 70_000,
  ])
})

it('starts a delayed task at its time, not before', async () => {
  const task = await queue.submit('square', { side: 1 }, { delay: '1h' })
  await queue.advance('59m59s')
  expect((await queue.get(task)).status).toBe('pending')
  await queue.advance('1s')
  expect(await queue.get(task)).toMatchObject({ status: 'success', startedAt: new Date('2026-01-01T01:00:00Z') })
})

it('ends waits and attempts at their deadlines', async () => {
  await queue.pause('square')
  const waiting = await queue.submit('square', { side: 1 }, { queueTimeout: '10m' })
  const hanging = await queue.submit('stuck', undefined as never)
  await queue.advance('4m59s')
  expect((await queue.get(hanging)).status).toBe('processing')
  await queue.advance('1s')
  expect(await queue.get(hanging)).toMatchObject({ status: 'timeout', timeoutReason: 'processing' })
  await queue.advance('5m')
  expect(await queue.get(waiting)).toMatchObject({ status: 'timeout', timeoutReason: 'queue_wait' })
})

it('waits for handlers in real time, and names one that hangs', async () => {
  const tasks = await Promise.all([1, 2, 3].map(() => queue.submit('slow', 5)))
  await queue.runUntilIdle()
  for (const task of tasks) expect((await queue.get(task)).status).toBe('success')
  await queue.submit('stuck', undefined as never)
  await expect(queue.runUntilIdle()).rejects.toThrow('a handler of stuck has not ended')
})

it('is idle when no waiting task would start by itself', async () => {
  await queue.pause('square')
  const task = await queue.submit('square', { side: 2 })
  await queue.runUntilIdle()
  expect((await queue.get(task)).status).toBe('pending')
  await queue.pause('square', false)
  await queue.runUntilIdle()
  expect(await queue.result(task)).toEqual({ area: 4, unit: 'm' })
})

it('hands out the tasks of a lost worker again when its leases end', async () => {
  const task = await queue.submit('stuck', undefined as never)
  queue.loseWorker()
  await queue.startWorker()
  await queue.advance('29s')
  expect(await queue.get(task)).toMatchObject({ status: 'processing', deliveries: 1 })
  await queue.advance('1s')
  expect(await queue.get(task)).toMatchObject({ status: 'processing', deliveries: 2, attempts: 0 })
  expect(() => [queue.loseWorker(), queue.loseWorker()]).toThrow('no worker is left')
})

it('is idle without a worker, until one starts', async () => {
  queue.loseWorker()
  const task = await queue.submit('square', { side: 2 }, { queueTimeout: 0 })
  await queue.runUntilIdle()
  expect((await queue.get(task)).status).toBe('pending')
  await queue.startWorker()
  await queue.runUntilIdle()
  expect((await queue.get(task)).status).toBe('success')
})

it('refuses submissions while the engine fails, and continues when it is back', async () => {
  const waiting = await queue.submit('square', { side: 1 }, { delay: '1m' })
  queue.failEngine()
  await expect(queue.submit('square', { side: 1 })).rejects.toMatchObject({ code: 'engine_unavailable' })
  await expect(queue.runUntilIdle()).rejects.toMatchObject({ code: 'engine_unavailable' })
  await queue.advance('2m')
  expect((await queue.get(waiting)).status).not.toBe('success')
  queue.restoreEngine()
  await queue.runUntilIdle()
  expect((await queue.get(waiting)).status).toBe('success')
})

it('cancels waiting and running tasks, and runs them again', async () => {
  const running = await queue.submit('stuck', undefined as never)
  await queue.cancel(running)
  expect((await queue.get(running)).status).toBe('processing')
  await queue.advance('5s')
  expect((await queue.get(running)).status).toBe('canceled')
  await expect(queue.cancel(running)).rejects.toMatchObject({ code: 'task_finished' })
  await queue.retry(running)
  expect((await queue.get(running)).status).toBe('processing')
})

it('runs tasks after their predecessors, and is idle if these do not run', async () => {
  const squares = [
    await queue.submit('square', { side: 3 }, { delay: '1h' }),
    await queue.submit('square', { side: 4 }),
  ]
  const sum = await queue.submit('sum', undefined as never, { after: squares.map(({ id }) => id) })
  await queue.advance('59m')
  expect((await queue.get(sum)).status).toBe('pending')
  await queue.runUntilIdle()
  expect(await queue.result(sum)).toBe(25)

  const broken = await queue.submit('flaky', undefined as never)
  const [canceled, all, waits] = [
    await queue.submit('sum', undefined as never, { after: [broken.id] }),
    await queue.submit('sum', undefined as never, { after: [broken.id, squares[1]!.id], onFailure: 'run' }),
    await queue.submit('sum', undefined as never, { after: [broken.id], onFailure: 'wait' }),
  ]
  const before = queue.now().getTime()
  await queue.runUntilIdle()
  expect(queue.now().getTime() - before).toBe(70_000)
  expect((await queue.get(canceled)).status).toBe('canceled')
  expect(await queue.result(all)).toBe(16)
  expect((await queue.get(waits)).status).toBe('pending')
  await expect(queue.submit('sum', undefined as never, { after: ['none'] })).rejects.toMatchObject({
    code: 'unknown_predecessor',
    details: { errors: [{ path: 'tasks[0].after[0]' }] },
  })
})
