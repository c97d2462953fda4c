import { pino } from 'pino'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import type { Queue, Turn } from '../../src/queue/queue.ts'
import { RateLimited } from '../../src/task/retry.ts'
import { completeSpec, type Task } from '../../src/task/task.ts'
import type { Handlers } from '../../src/worker/handler.ts'
import { normalizeHandlers } from '../../src/worker/handlers.ts'
import { Worker } from '../../src/worker/worker.ts'
import type { WorkerOptions } from '../../src/worker/worker-options.ts'
import { openTestQueue } from '../fixtures/server.ts'

/** More than the quick attempts that have to come first. */
const WARM = 200
const logger = pino({ level: 'silent' })

let queue: Queue
let workers: Worker[]

beforeEach(async () => {
  queue = await openTestQueue('sqlite::memory:')
  await queue.configureType('quick', { declared: true })
  workers = []
})
afterEach(async () => {
  await Promise.all(workers.map((worker) => worker.stopNow()))
})

async function start(handlers: Handlers, options: Partial<WorkerOptions> = {}): Promise<Worker> {
  const worker = new Worker({ queue, handlers: normalizeHandlers(handlers), logger, concurrency: 1, ...options })
  workers.push(worker)
  await worker.start()
  return worker
}
async function submit(payloads: unknown[]): Promise<string[]> {
  const specs = payloads.map((payload) => completeSpec({ type: 'quick', payload: payload as never }))
  return (await queue.submit(specs)).map(({ task }) => task.id)
}
async function tasks(ids: string[], reached: (tasks: Task[]) => void): Promise<void> {
  await vi.waitFor(async () => reached((await queue.get(ids)) as Task[]), { timeout: 30_000, interval: 50 })
}
const quick = (count: number) => Array.from({ length: count }, () => 'quick')
const allSucceeded = (found: Task[]) => expect(found.every(({ status }) => status === 'success')).toBe(true)

/** The queue, with a callback for each turn that reports outcomes. */
function watched(reported: (turn: Turn) => void): Queue {
  return new Proxy(queue, {
    get: (target, name) => {
      const value = Reflect.get(target, name)
      if (typeof value !== 'function') return value
      if (name !== 'turn') return value.bind(target)
      return (turn: Turn) => {
        if (turn.outcomes?.length) reported(turn)
        return target.turn(turn)
      }
    },
  })
}

it('reports many quick tasks in one turn, and runs no more at once than its concurrency', async () => {
  const reports: number[] = []
  let [running, most] = [0, 0]
  const run = async () => {
    running += 1
    most = Math.max(most, running)
    await null
    running -= 1
  }
  const ids = await submit(quick(2_000))
  await start({ quick: { run } }, { queue: watched(({ outcomes }) => reports.push(outcomes!.length)) })
  await tasks(ids, allSucceeded)
  expect(most).toBe(1)
  expect(Math.max(...reports)).toBeGreaterThan(20)
  // It begins with one after the other.
  expect(reports.slice(0, 50)).toEqual(Array(50).fill(1))
})

it('claims no more than it runs if prefetch is off', async () => {
  const reports: number[] = []
  const ids = await submit(quick(500))
  const options = { claimAhead: 0, queue: watched(({ outcomes }) => reports.push(outcomes!.length)) }
  await start({ quick: { run: async () => null } }, options)
  await tasks(ids, allSucceeded)
  expect(Math.max(...reports)).toBe(1)
})

it('releases at no cost the tasks behind a long one', async () => {
  const end = Promise.withResolvers<void>()
  const run = ({ payload }: { payload: unknown }) => (payload === 'long' ? end.promise : undefined)
  const ids = await submit([...quick(WARM), 'long', ...quick(WARM)])
  await start({ quick: { run } })
  await start({ quick: { run } }, { claimAhead: 0 })
  const others = ids.filter((_, index) => index !== WARM)
  await tasks(others, allSucceeded)
  await tasks(others, (found) => expect(found.every(({ attempts }) => attempts === 1)).toBe(true))
  await tasks([ids[WARM]!], ([long]) => expect(long).toMatchObject({ status: 'processing', deliveries: 1 }))
  end.resolve()
  await tasks(ids, allSucceeded)
})

it('releases at no cost the tasks that a hold of their type keeps from starting', async () => {
  let isHeld = false
  const started: unknown[] = []
  const run = ({ payload }: { payload: unknown }) => {
    if (isHeld) started.push(payload)
    if (payload !== 'limited' || isHeld) return
    isHeld = true
    throw new RateLimited({ for: '1h' })
  }
  const ids = await submit([...quick(WARM), 'limited', ...quick(WARM)])
  await start({ quick: { run } })
  const behind = ids.slice(WARM)
  await tasks(behind, (found) => {
    expect(found.every(({ status, attempts }) => status === 'pending' && attempts === 0)).toBe(true)
    expect(found[0]!.deliveries).toBe(1)
  })
  expect(started).toEqual([])
  await queue.configureType('quick', { holdMs: 0 })
  await tasks(ids, allSucceeded)
})

it('ends tasks as canceled that were canceled before their start', async () => {
  const blocked = Promise.withResolvers<void>()
  const run = async ({ payload }: { payload: unknown }) => {
    if (payload !== 'block') return
    await queue.cancel({ ids: canceled })
    await blocked.promise
  }
  const ids = await submit([...quick(WARM), 'block', 'behind', 'behind'])
  const canceled = ids.slice(-2)
  await start({ quick: { run } })
  await tasks(canceled, (found) => {
    expect(found).toMatchObject(Array(2).fill({ status: 'canceled', attempts: 0, deliveries: expect.any(Number) }))
  })
  blocked.resolve()
})

it('releases everything when it stops', async () => {
  const blocked = Promise.withResolvers<void>()
  const run = ({ payload }: { payload: unknown }) => (payload === 'block' ? blocked.promise : undefined)
  const ids = await submit([...quick(WARM), 'block', ...quick(50)])
  const worker = await start({ quick: { run } })
  await tasks([ids[WARM]!], ([task]) => expect(task).toMatchObject({ status: 'processing' }))
  const stopped = worker.stop()
  await tasks(ids.slice(WARM + 1), (found) => {
    expect(found.every(({ status, attempts }) => status === 'pending' && attempts === 0)).toBe(true)
  })
  blocked.resolve()
  await stopped
  await tasks([ids[WARM]!], allSucceeded)
})
