import { setImmediate } from 'node:timers/promises'
import { pino } from 'pino'
import { afterEach, expect, it, vi } from 'vitest'
import type { Queue, WorkerIdentity } from '../../src/queue/queue.ts'
import { Stalls } from '../../src/queue/stalls.ts'
import { RETRY_DEFAULTS } from '../../src/task/retry.ts'
import { completeSpec, type TaskSpec } from '../../src/task/task.ts'
import { closeAfterwards } from '../fixtures/closing.ts'
import { startRedis } from '../fixtures/redis.ts'
import { openTestQueue, startServer } from '../fixtures/server.ts'

const WAIT = { timeout: 30_000, interval: 20 }
const WORKER: WorkerIdentity = { id: 'frozen', host: 'h', pid: 1, types: ['mail'], concurrency: 2, startedAt: 0 }
const handler = { maxConcurrency: null, groupConcurrency: null, rate: null, retry: RETRY_DEFAULTS }

let stalls: Stalls | undefined
afterEach(() => stalls?.stop())

const submit = async (queue: Queue, spec: Partial<TaskSpec> = {}) =>
  (await queue.submit([completeSpec({ type: 'mail', ...spec })]))[0]!.task
/** The worker is alive. */
const live = (queue: Queue, want = 0) => queue.turn({ worker: WORKER, want })

/** Watches a queue; `looked` waits until so many more searches have ended. */
function watch(queue: Queue): (times: number) => Promise<void> {
  let looks = 0
  const counted = { ...queue, types: async () => queue.types().finally(() => (looks += 1)) }
  stalls = new Stalls({ queue: counted, afterMs: 30, logger: pino({ level: 'silent' }) })
  stalls.start()
  return async (times) => {
    const until = looks + times
    await vi.waitFor(() => expect(looks).toBeGreaterThanOrEqual(until), WAIT)
  }
}

it.each(['SQLite', 'Redis'])('a live worker that takes nothing makes /health degraded, on %s', async (store) => {
  const engine = store === 'Redis' ? { engine: (await startRedis()).url } : {}
  const server = await startServer({ ...engine, 'stall-after': '1s', mqtt: 'off' })
  const { queue } = server
  await queue.configureType('mail', { handler: { ...handler, payloadSchema: null, defaults: {} } })
  const { id } = await submit(queue)
  await live(queue)
  const health = async () => {
    const { status, body } = await server.get('/health')
    const { ok, detail } = body.checks.find(({ name }: { name: string }) => name === 'stalled')
    return { status, overall: body.status, ok, detail }
  }
  expect(await health()).toEqual({ status: 200, overall: 'healthy', ok: true, detail: 'tasks start' })
  const stalled = { status: 200, overall: 'degraded', ok: false, detail: expect.stringContaining(`mail (task ${id})`) }
  await vi.waitFor(async () => {
    await live(queue)
    expect(await health()).toEqual(stalled)
  }, WAIT)
  expect((await server.get('/metrics')).body).toContain('xqueue_stalled{type="mail"} 1')
  const said = () => server.log.map((line) => JSON.parse(line).msg).filter((msg) => msg.startsWith('health check'))
  await vi.waitFor(() => expect(said()).toEqual(['health check stalled failed']), WAIT)
  expect((await live(queue, 1)).leases).toHaveLength(1)
  await vi.waitFor(async () => expect(await health()).toMatchObject({ overall: 'healthy', ok: true }), WAIT)
  await vi.waitFor(() => expect(said().at(-1)).toBe('health check stalled recovered'), WAIT)
})

it.each([
  [0, 0],
  [30, 1],
])('with a time of %d ms, %d timers search', async (afterMs, timers) => {
  const queue = await openTestQueue()
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  closeAfterwards(() => vi.useRealTimers())
  stalls = new Stalls({ queue, afterMs, logger: pino({ level: 'silent' }) })
  stalls.start()
  expect(vi.getTimerCount()).toBe(timers)
})

it.each<[why: string, limits: object, make: (queue: Queue) => Promise<unknown>]>([
  ['no task waits', {}, async () => undefined],
  ['its tasks are delayed', {}, (queue) => submit(queue, { delayMs: 3_600_000 })],
  ['it is paused', {}, async (queue) => [await submit(queue), await queue.configureType('mail', { paused: true })]],
  ['it is held', {}, async (queue) => [await submit(queue), await queue.configureType('mail', { holdMs: 3_600_000 })]],
  [
    'it is at its limit',
    { maxConcurrency: 1 },
    async (queue) => [await submit(queue), await live(queue, 1), await submit(queue)],
  ],
  [
    'its groups are at their limits',
    { groupConcurrency: 1 },
    async (queue) => [await submit(queue, { group: 'a' }), await live(queue, 1), await submit(queue, { group: 'a' })],
  ],
  [
    'its rate allows no start',
    { rate: { max: 1, perMs: 3_600_000 } },
    async (queue) => [await submit(queue), await live(queue, 1), await submit(queue)],
  ],
  [
    'its workers have no free slot',
    {},
    async (queue) => [await submit(queue), await submit(queue), await live(queue, 2), await submit(queue)],
  ],
])('a type is not stalled if %s', async (_, limits, make) => {
  const queue = await openTestQueue()
  await queue.configureType('mail', { handler: { ...handler, ...limits, payloadSchema: null, defaults: {} } })
  await live(queue)
  await make(queue)
  const looked = watch(queue)
  await looked(12)
  expect(stalls!.check()).toMatchObject({ ok: true, degrades: true })
})

it('a type is not stalled if its worker has not called since the task is ready', async () => {
  const queue = await openTestQueue()
  await queue.configureType('mail', { handler: { ...handler, payloadSchema: null, defaults: {} } })
  await live(queue)
  await submit(queue)
  const looked = watch(queue)
  await looked(12)
  expect(stalls!.stalled()).toEqual([])
})

it('a task that has started is not stalled', async () => {
  const queue = await openTestQueue()
  await queue.configureType('mail', { handler: { ...handler, payloadSchema: null, defaults: {} } })
  for (let n = 0; n < 12; n++) await submit(queue)
  const looked = watch(queue)
  for (let n = 0; n < 12; n++) {
    const { leases } = await live(queue, 1)
    await queue.turn({
      worker: WORKER,
      want: 0,
      outcomes: [{ lease: leases[0]!.lease, outcome: { kind: 'success', result: null } }],
    })
    // A search that was under way may still have seen the task.
    await looked(2)
    expect(stalls!.stalled().map(({ taskId }) => taskId)).not.toContain(leases[0]!.task.id)
  }
})

it('the end of the search waits for what it reads, so that the store can close', async () => {
  const queue = await openTestQueue()
  const [begun, goesOn] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  const steps: string[] = []
  const types = async () => {
    begun.resolve()
    await goesOn.promise
    return queue.types().finally(() => steps.push('read'))
  }
  stalls = new Stalls({ queue: { ...queue, types }, afterMs: 30, logger: pino({ level: 'silent' }) })
  stalls.start()
  await begun.promise
  const stopped = stalls.stop().then(() => steps.push('stopped'))
  await setImmediate()
  goesOn.resolve()
  await stopped
  expect(steps).toEqual(['read', 'stopped'])
})
