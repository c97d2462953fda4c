import { join } from 'node:path'
import { runInNewContext } from 'node:vm'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { Queue, Turn } from '../../src/queue/queue.ts'
import { redacted } from '../../src/queue/redacted-queue.ts'
import { XQueueError } from '../../src/task/errors.ts'
import { textOf } from '../../src/task/json.ts'
import { RetryAfter } from '../../src/task/retry.ts'
import { isFinal } from '../../src/task/status.ts'
import { completeSpec, type Task, type TaskSpec } from '../../src/task/task.ts'
import { describeError } from '../../src/task/thrown.ts'
import type { Handlers } from '../../src/worker/handler.ts'
import { loadHandlers, normalizeHandlers } from '../../src/worker/handlers.ts'
import { Worker } from '../../src/worker/worker.ts'
import type { WorkerOptions } from '../../src/worker/worker-options.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { openTestQueue } from '../fixtures/server.ts'
import { THROWN } from './thrown-handlers.ts'

/** Values that handlers may throw, return and report without effect on other tasks. */

let lines: string[]
const logger = pino({ level: 'warn' }, { write: (line: string) => void lines.push(line) })
let folder: string
let queue: Queue
let workers: Worker[]
beforeEach(async () => {
  lines = []
  folder = temporaryFolder()
  queue = await openTestQueue(`sqlite:${join(folder, 'x.db')}`)
  workers = []
})
afterEach(async () => {
  await Promise.all(workers.map((worker) => worker.stopNow()))
})

async function start(handlers: WorkerOptions['handlers'], options: Partial<WorkerOptions> = {}): Promise<void> {
  const worker = new Worker({ queue, handlers, logger, ...options })
  workers.push(worker)
  await worker.start()
}
const startWith = (handlers: Handlers, options?: Partial<WorkerOptions>) => start(normalizeHandlers(handlers), options)
const submit = async (type: string, spec: Partial<TaskSpec> = {}) =>
  (await queue.submit([completeSpec({ type, maxRetry: 0, ...spec })]))[0]!.task.id
const until = (id: string, reached: (task: Task) => boolean) =>
  vi.waitFor(
    async () => {
      const [task] = await queue.get([id])
      expect(task && reached(task)).toBe(true)
      return task!
    },
    { timeout: 30_000, interval: 5 },
  )
const ended = (id: string) => until(id, ({ status }) => isFinal(status))

describe('invalid values of handlers', () => {
  const file = join(import.meta.dirname, 'thrown-handlers.ts')
  it.each(Object.keys(THROWN))(
    'fail only the task when %s is thrown, in the process, in a thread, and outside its promise',
    async (how) => {
      await start(normalizeHandlers(await loadHandlers(file), file))
      const types = ['here', 'isolated', 'stray', 'isolated_stray']
      const ids = await Promise.all(types.map((type) => submit(type, { payload: how })))
      for (const id of ids) {
        const { status, error } = await ended(id)
        expect([status, typeof error, error!.length > 0]).toEqual(['failed', 'string', true])
      }
      expect(await ended(await submit('fine'))).toMatchObject({ status: 'success' })
    },
  )

  it('are described as far as possible: symbols as names, errors of another realm, causes and inner errors', () => {
    const symbolic = Object.assign(new Error('of a symbol'), { name: Symbol('Odd'), stack: undefined })
    expect(describeError(symbolic)).toBe('Symbol(Odd): of a symbol')
    expect(describeError(runInNewContext('new TypeError("elsewhere")'))).toMatch(/^TypeError: elsewhere\n {4}at /)
    const deep = new Error('outer', { cause: new AggregateError([new Error('first'), 'second'], 'several') })
    const found = describeError(deep)
    for (const part of ['Error: outer', '[cause]: AggregateError: several', '[errors 0]: Error: first', 'second']) {
      expect(found).toContain(part)
    }
    const round = new Error('round')
    round.cause = round
    expect(describeError(round).match(/round/g)!.length).toBeGreaterThan(0)
    expect(describeError(`${'x'.repeat(16_383)}😀`).isWellFormed()).toBe(true)
  })

  it('keeps the causes of a failure in the error of the task, also from a thread', async () => {
    await start(normalizeHandlers(await loadHandlers(file), file))
    for (const type of ['caused', 'isolated_caused']) {
      const { error } = await ended(await submit(type))
      expect(error).toMatch(/outer[\s\S]*\[cause\]: Error: inner/)
    }
  })
})

it('describes a thrown object that JSON cannot represent', () => {
  const round: Record<string, unknown> = { code: 7 }
  round.self = round
  expect(describeError({ code: 7, rows: 1n })).toMatch(/code: 7, rows: 1n/)
  expect(describeError(round)).toMatch(/code: 7, self: \[Circular/)
  expect(describeError(1n)).toBe('1n')
})

it('fails a task whose result is a Map instead of storing an empty object', async () => {
  await startWith({ counts: { run: () => ({ by: new Map([['a', 1]]) }) as never } })
  const { status, error, attempts } = await ended(await submit('counts', { maxRetry: 3 }))
  expect([status, attempts]).toEqual(['failed', 1])
  expect(error).toMatch(/result\.by is a Map, which JSON writes as \{\}: use Object\.fromEntries\(map\)/)
})

it('logs each attempt that fails or runs out of time with its task, and none that was canceled', async () => {
  await startWith({
    broken: { run: () => Promise.reject(new Error('no disk')), retry: { base: '1ms' } },
    huge: { run: () => 'x'.repeat(2_000_000) },
    slow: { run: (_, { signal }) => new Promise((_resolve, fail) => signal.addEventListener('abort', fail)) },
  })
  const broken = await submit('broken', { maxRetry: 1 })
  const huge = await submit('huge')
  const slow = await submit('slow', { processTimeoutMs: 20 })
  await Promise.all([broken, huge, slow].map(ended))
  const canceled = await submit('slow')
  await until(canceled, ({ status }) => status === 'processing')
  await queue.cancel({ ids: [canceled] })
  expect((await ended(canceled)).status).toBe('canceled')
  const logged = lines.map((line) => JSON.parse(line)).filter(({ msg }) => msg.startsWith('an attempt'))
  const of = (id: string) => logged.filter(({ task_id }) => task_id === id)
  expect(of(broken)).toMatchObject(
    [1, 2].map((attempt) => ({ level: 40, type: 'broken', attempt, err: { message: 'no disk' }, msg: FAILED })),
  )
  expect(of(huge)).toMatchObject([{ attempt: 1, why: expect.stringMatching(/2000002 bytes/), msg: FAILED }])
  expect(of(slow)).toMatchObject([{ attempt: 1, msg: 'an attempt timed out' }])
  expect(of(canceled)).toEqual([])
})
const FAILED = 'an attempt failed'

it('stores a result as returned, although it later becomes invalid', async () => {
  const kept: Record<string, unknown>[] = []
  await startWith({
    changing: {
      run: (_, { progress }) => {
        const value: Record<string, unknown> = { n: 1 }
        progress(value as never)
        kept.push(value)
        setImmediate(() => {
          value.self = value
          value.big = 1n
        })
        return value
      },
    },
  })
  const ids = await Promise.all(Array.from({ length: 20 }, () => submit('changing')))
  for (const id of ids)
    expect(await ended(id)).toMatchObject({ status: 'success', result: { n: 1 }, progress: { n: 1 } })
  expect(kept[0]!.self).toBe(kept[0])
})

it('never fails a task for its progress: bounds it, and logs once that it was ignored', async () => {
  await startWith({
    noisy: {
      run: (_, { progress }) => {
        for (const value of [Number.NaN, 'half', [1], null, { n: 1n }, { big: 'x'.repeat(20_000) }])
          progress(value as never)
        progress(100.00000000000001)
        return 'done'
      },
    },
  })
  const id = await submit('noisy')
  expect(await ended(id)).toMatchObject({ status: 'success', result: 'done', progress: 100 })
  expect(lines.filter((line) => line.includes('invalid progress was ignored'))).toHaveLength(1)
})

it('sends only the latest progress of a task each time, and the last one with its end', async () => {
  let last = 0
  await startWith({
    busy: {
      run: async (_, { progress }) => {
        for (let step = 1; step <= 500; step++) {
          progress({ step, list: 'x'.repeat(10_000) })
          await new Promise(setImmediate)
        }
        last = 500
      },
    },
    other: { run: () => 1 },
  })
  const id = await submit('busy')
  // Others end meanwhile, and each of their turns could take progress along.
  const others = Promise.all(Array.from({ length: 200 }, () => submit('other').then(ended)))
  expect(await ended(id)).toMatchObject({ progress: { step: 500 } })
  await others
  const { events } = await queue.events({ after: '', max: 10_000 })
  const reported = events.filter(({ kind, taskId }) => kind === 'progress' && taskId === id)
  expect(last).toBe(500)
  expect(reported.length).toBeLessThan(100)
})

it.each([Number.NaN, Number.POSITIVE_INFINITY, 1e17, 'soon'])(
  'retries by the back-off after RetryAfter(%s), and logs it; other tasks of the turn succeed',
  async (delay) => {
    await startWith({
      later: {
        run: () => {
          throw new RetryAfter(delay, 'busy')
        },
      },
      fine: { run: () => 'ok' },
    })
    const [later, ...fine] = await Promise.all([
      submit('later', { maxRetry: 3 }),
      ...Array.from({ length: 20 }, () => submit('fine')),
    ])
    const waiting = await until(later!, ({ attempts }) => attempts === 1)
    expect(waiting.runAt - waiting.updatedAt).toBeLessThanOrEqual(1_000)
    expect(waiting.error).toMatch(/back-off applies.*busy/)
    for (const id of fine) expect(await ended(id)).toMatchObject({ status: 'success' })
  },
)

it('waits for whole milliseconds or a duration with units', async () => {
  const delays: (number | string)[] = [3_600.0004, '1h']
  await startWith({
    later: {
      run: ({ payload }) => {
        throw new RetryAfter(delays[payload as number]!)
      },
    },
  } as Handlers)
  for (const payload of [0, 1]) {
    const waiting = await until(await submit('later', { payload, maxRetry: 1 }), ({ attempts }) => attempts === 1)
    expect(waiting.runAt - waiting.updatedAt).toBe(3_600_000)
  }
})

/** Refuses some outcomes, as a store may. */
function picky(inner: Queue): Queue {
  return {
    ...redacted(inner, (shown) => shown),
    turn: (turn: Turn) => {
      const isBad = turn.outcomes?.some(
        ({ outcome }) => outcome.kind === 'success' && textOf(outcome.result) === '"bad"',
      )
      return isBad ? Promise.reject(new XQueueError('internal', 'the store cannot take this')) : inner.turn(turn)
    },
  }
}

it('fails only the task whose outcome the store refuses, with the reason, and stores the others', async () => {
  const held = new Set<string>()
  const together = Promise.withResolvers<void>()
  const run =
    (result: string) =>
    async ({ id }: Task) => {
      held.add(id)
      if (held.size === 6) together.resolve()
      await together.promise
      return result
    }
  await startWith({ fine: { run: run('fine') as never }, bad: { run: run('bad') as never } }, { queue: picky(queue) })
  const ids = await Promise.all(['fine', 'fine', 'bad', 'fine', 'fine', 'fine'].map((type) => submit(type)))
  const tasks = await Promise.all(ids.map(ended))
  expect(tasks.map(({ status }) => status)).toEqual(['success', 'success', 'failed', 'success', 'success', 'success'])
  expect(tasks[2]!.error).toMatch(/the outcome was refused: .*the store cannot take this/)
})
