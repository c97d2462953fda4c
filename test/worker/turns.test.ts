import { hostname } from 'node:os'
import { pino } from 'pino'
import { beforeEach, expect, it, onTestFinished, vi } from 'vitest'
import type { Queue, Turn } from '../../src/queue/queue.ts'
import { XQueueError } from '../../src/task/errors.ts'
import { completeSpec, type TaskSpec } from '../../src/task/task.ts'
import { MACHINE_TIME } from '../../src/task/time.ts'
import type { Handler } from '../../src/worker/handler.ts'
import { normalizeHandlers } from '../../src/worker/handlers.ts'
import type { Renewal, Runtime } from '../../src/worker/runtime.ts'
import { leasesOn } from '../../src/worker/shared-leases.ts'
import { isPassing } from '../../src/worker/task-source.ts'
import { Worker } from '../../src/worker/worker.ts'
import type { WorkerOptions } from '../../src/worker/worker-options.ts'
import { openTestQueue } from '../fixtures/server.ts'

/** What a worker sends in its turns, logs and renews. */

const SOON = { timeout: 20_000 }
let queue: Queue
let turns: Turn[]
/** Fails a turn with this error. */
let refusal: (turn: Turn) => Error | null
let lines: { msg: string; [field: string]: unknown }[]
let renewals: Renewal[]
let pauses: number[]
beforeEach(async () => {
  queue = await openTestQueue('sqlite::memory:')
  turns = []
  refusal = () => null
  lines = []
  renewals = []
  pauses = []
})

const runtime: Runtime = {
  // The pauses after failed turns are not waited for.
  time: {
    ...MACHINE_TIME,
    after: (ms, run) => {
      pauses.push(ms)
      if (ms > 2_000) return MACHINE_TIME.after(ms, run)
      setImmediate(run)
      return () => undefined
    },
  },
  renew: (renewal) => {
    renewals.push(renewal)
    return async () => undefined
  },
  catchUncaught: () => () => undefined,
}

async function start(run: Handler<never>['run'], options: Partial<WorkerOptions> = {}): Promise<Worker> {
  const source = new Proxy(queue, {
    get: (target, name) => {
      const value = Reflect.get(target, name)
      if (name !== 'turn') return typeof value === 'function' ? value.bind(target) : value
      return async (turn: Turn) => {
        turns.push(turn)
        const error = refusal(turn)
        if (error) throw error
        return target.turn(turn)
      }
    },
  })
  const logger = pino({ level: 'debug', base: null }, { write: (line) => void lines.push(JSON.parse(line)) })
  const handlers = normalizeHandlers({ t: { run: run as never }, u: { run: run as never } })
  const worker = new Worker({ queue: source, handlers, logger, runtime, ...options })
  onTestFinished(() => worker.stopNow())
  await worker.start()
  return worker
}
const submit = async (spec: Partial<TaskSpec> = {}) =>
  (await queue.submit([completeSpec({ type: 't', maxRetry: 0, ...spec })]))[0]!.task
const ended = (id: string, status: string) =>
  vi.waitFor(async () => {
    const [task] = await queue.get([id])
    expect(task!.status).toBe(status)
    return task!
  }, SOON)
const reported = () => turns.flatMap(({ outcomes = [] }) => outcomes)

it('names its host and process, or the name that it was given, with its types and its concurrency', async () => {
  const before = Date.now()
  const { identity } = await start(() => null)
  const id = expect.stringMatching(`^${hostname()}-${process.pid}-[\\da-f]{8}$`)
  const own = { host: hostname(), pid: process.pid, types: ['t', 'u'] }
  expect(identity).toEqual({ ...own, id, concurrency: 10, startedAt: expect.any(Number) })
  expect(identity.startedAt).toBeGreaterThanOrEqual(before)
  expect((await start(() => null, { id: 'named', concurrency: 3 })).identity).toMatchObject({
    id: 'named',
    concurrency: 3,
  })
})

it('asks for as many tasks as it has room for, with its lease, and has the renewal know them', async () => {
  const go = Promise.withResolvers<void>()
  await start(() => go.promise, { concurrency: 3, leaseMs: 7_000 })
  await vi.waitFor(
    () => expect(turns[0]).toMatchObject({ want: 3, waitMs: 5_000, leaseMs: 7_000, outcomes: [], logs: [] }),
    SOON,
  )
  const { id } = await submit()
  await ended(id, 'processing')
  await vi.waitFor(() => expect(turns.at(-1)!.want).toBe(2), SOON)
  expect(renewals).toMatchObject([{ leaseMs: 7_000, engineUrl: queue.url, worker: { concurrency: 3 } }])
  go.resolve()
  await ended(id, 'success')
  await start(() => null, { id: 'other' })
  await vi.waitFor(() => expect(turns.find(({ worker }) => worker.id === 'other')!.leaseMs).toBe(30_000), SOON)
})

it('tells of each attempt how long it waited and ran', async () => {
  const attempts: Parameters<NonNullable<WorkerOptions['onAttempt']>>[0][] = []
  let elapsed = 100
  const time = { ...runtime.time, elapsed: () => elapsed }
  const run = () => {
    elapsed += 25
    throw new Error('no')
  }
  await start(run, { runtime: { ...runtime, time }, onAttempt: (attempt) => void attempts.push(attempt) })
  const { id, runAt } = await submit()
  const { startedAt } = await ended(id, 'failed')
  expect(attempts).toEqual([{ type: 't', outcome: 'failure', waitMs: startedAt! - runAt, runMs: 25 }])
})

it('repeats a failed turn after growing pauses of at most two seconds, and logs each', async () => {
  let failures = 8
  refusal = () => (failures-- > 0 ? new XQueueError('engine_unavailable', 'away') : null)
  await start(() => null)
  const { id } = await submit()
  await ended(id, 'success')
  const growing = [50, 100, 200, 400, 800, 1_600, 2_000, 2_000]
  expect(pauses.filter((ms) => ms >= 50 && ms <= 2_000).slice(0, 8)).toEqual(growing)
  const failed = lines.filter(({ msg }) => msg === 'a turn failed; the worker will retry')
  expect(failed.map(({ retry_ms }) => retry_ms)).toEqual(growing)
  // After a turn that succeeded they begin again.
  failures = 1
  await ended((await submit()).id, 'success')
  await vi.waitFor(() => expect(lines.filter(({ retry_ms }) => retry_ms === 50)).toHaveLength(2), SOON)
})

it('signs off when it stops, and logs when it cannot', async () => {
  const worker = await start(() => null)
  await worker.stop()
  expect(turns.at(-1)).toEqual({ worker: worker.identity, want: 0, leaving: true })
  const other = await start(() => null)
  refusal = ({ leaving }) => (leaving ? new XQueueError('engine_unavailable', 'away') : null)
  await other.stop()
  expect(lines.at(-1)).toMatchObject({ level: 40, msg: 'the worker could not sign off; its entry will expire' })
})

it('reports a refused outcome four times, the last time as a failure, and logs when that is refused too', async () => {
  refusal = ({ outcomes = [] }) =>
    outcomes.some(({ outcome }) => outcome.kind === 'success')
      ? new XQueueError('invalid_request', 'not storable')
      : null
  await start(() => 1)
  const first = await ended((await submit()).id, 'failed')
  expect(first.error).toMatch(/^the outcome was refused: XQueueError: not storable/)
  const kinds = ['success', 'success', 'success', 'success', 'failure']
  expect(reported().map(({ outcome }) => outcome.kind)).toEqual(kinds)
  turns = []
  refusal = ({ outcomes = [] }) => (outcomes.length > 0 ? new XQueueError('internal', 'never') : null)
  const second = await submit()
  const refused = 'the store refused an outcome, and the failure in its place as well'
  await vi.waitFor(() => expect(lines.find(({ msg }) => msg === refused)).toMatchObject({ level: 50 }), SOON)
  expect(reported().map(({ outcome }) => outcome.kind)).toEqual(kinds)
  expect((await queue.get([second.id]))[0]!.status).toBe('processing')
})

it('takes a lost lease from its attempt, reports nothing for it, and runs another task in its place', async () => {
  const signals: AbortSignal[] = []
  const run: Handler<never>['run'] = (_, { signal }) => {
    signals.push(signal)
    return new Promise<null>((resolve) => signal.addEventListener('abort', () => resolve(null)))
  }
  await start(run, { concurrency: 1, claimAhead: 0 })
  const { id } = await submit()
  await vi.waitFor(() => expect(signals).toHaveLength(1), SOON)
  const { leases } = await queue.turn({ worker: { ...renewals[0]!.worker, id: 'x' }, want: 1 })
  expect(leases).toEqual([])
  const [lease] = await vi.waitFor(async () => {
    const found = leasesOn(renewals[0]!.board)
    expect(found).toHaveLength(1)
    return found
  }, SOON)
  renewals[0]!.lost(['unknown.1', lease!.lease])
  expect(signals[0]!.reason).toMatchObject({ message: 'the lease was lost' })
  const lost = 'a lease was lost: its task has ended or was handed out again'
  expect(lines.filter(({ msg }) => msg === lost)).toMatchObject([{ level: 40, lease: lease!.lease }])
  await submit({ priority: 9 })
  await vi.waitFor(() => expect(signals).toHaveLength(2), SOON)
  expect(reported()).toEqual([])
  expect((await queue.get([id]))[0]!.status).toBe('processing')
})

it('releases a task whose lease was over before it was read', async () => {
  const late = { ...runtime.time, now: () => Date.now() + 10_000 }
  let runs = 0
  await start(() => void runs++, { leaseMs: 5_000, runtime: { ...runtime, time: late } })
  await submit()
  await vi.waitFor(() => expect(reported()[0]?.outcome).toEqual({ kind: 'released' }), SOON)
  expect(runs).toBe(0)
})

it('logs an outcome that was too late', async () => {
  await start(() => null)
  const { id } = await submit()
  refusal = ({ outcomes = [] }) => {
    if (outcomes.length > 0)
      void queue.turn({
        worker: turns[0]!.worker,
        want: 0,
        outcomes: outcomes.map(({ lease }) => ({ lease, outcome: { kind: 'released' } })),
      })
    return null
  }
  await vi.waitFor(
    () => expect(lines).toContainEqual(expect.objectContaining({ outcome: 'success', msg: 'an outcome was too late' })),
    SOON,
  )
  refusal = () => null
  await ended(id, 'success')
})

it.each([
  ['engine_unavailable', true],
  ['engine_unusable', true],
  ['shutting_down', true],
  ['too_many_calls', true],
  ['invalid_request', false],
  ['internal', false],
] as const)('takes the error %s of a source as passing: %j', (code, passes) => {
  expect(isPassing(new XQueueError(code, 'no'))).toBe(passes)
  expect(isPassing(Object.assign(new Error('no'), { code }))).toBe(false)
})
