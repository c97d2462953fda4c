import { connect } from 'node:net'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { z } from 'zod'
import type { Queue } from '../../src/queue/queue.ts'
import { Sweeper } from '../../src/queue/sweeper.ts'
import { XQueueError } from '../../src/task/errors.ts'
import { DoNotRetry, RetryAfter } from '../../src/task/retry.ts'
import { isFinal } from '../../src/task/status.ts'
import { completeSpec, type Task, type TaskSpec } from '../../src/task/task.ts'
import { defineHandlers, type HandlerContext, type Handlers } from '../../src/worker/handler.ts'
import { loadHandlers, normalizeHandlers } from '../../src/worker/handlers.ts'
import { Worker } from '../../src/worker/worker.ts'
import type { WorkerOptions } from '../../src/worker/worker-options.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { openTestQueue } from '../fixtures/server.ts'

const logger = pino({ level: 'silent' })
const LEASE_MS = 1_200

let folder: string
let queue: Queue
let sweeper: Sweeper
let workers: Worker[]

beforeEach(async () => {
  folder = temporaryFolder()
  queue = await openTestQueue(`sqlite:${join(folder, 'x.db')}`, { leaseMs: LEASE_MS })
  sweeper = new Sweeper(queue, logger)
  sweeper.start()
  workers = []
})
afterEach(async () => {
  await Promise.all(workers.map((worker) => worker.stopNow()))
  await sweeper.stop()
})

const start = (handlers: Handlers, more: Partial<WorkerOptions> = {}) => startWith(normalizeHandlers(handlers), more)
async function startWith(handlers: WorkerOptions['handlers'], more: Partial<WorkerOptions> = {}): Promise<Worker> {
  const worker = new Worker({ queue, handlers, logger, leaseMs: LEASE_MS, ...more })
  workers.push(worker)
  await worker.start()
  return worker
}
async function submit(type: string, spec: Partial<TaskSpec> = {}): Promise<string> {
  return (await queue.submit([completeSpec({ type, maxRetry: 0, ...spec })]))[0]!.task.id
}
async function until(id: string, reached: (task: Task) => boolean): Promise<Task> {
  return vi.waitFor(
    async () => {
      const [task] = await queue.get([id])
      expect(task && reached(task)).toBe(true)
      return task!
    },
    { timeout: 30_000, interval: 5 },
  )
}
const ended = (id: string) => until(id, ({ status }) => isFinal(status))
const running = (id: string) => until(id, ({ status }) => status === 'processing')
const forever = () => new Promise<never>(() => undefined)

it('runs a task with its parsed payload and keeps its result and last progress', async () => {
  const add = defineHandlers({
    add: {
      payload: z.object({ a: z.number(), b: z.number().default(5) }),
      run: ({ payload }, { progress, attempt }) => {
        progress(50)
        return { sum: payload.a + payload.b, attempt }
      },
    },
  })
  await start(add)
  const task = await ended(await submit('add', { payload: { a: 1 } }))
  expect(task).toMatchObject({ status: 'success', result: { sum: 6, attempt: 1 }, progress: 50, attempts: 1 })
})

it('gives handlers a log also where no lines are kept with the tasks', async () => {
  const run = (_: unknown, { log }: HandlerContext) => {
    log.info('a line')
    return 'logged'
  }
  await start({ talks: { run } }, { keepsLogs: false })
  expect(await ended(await submit('talks'))).toMatchObject({ status: 'success', result: 'logged' })
})

it('fails only one task, whatever it throws and wherever', async () => {
  await start({
    sync: {
      run: () => {
        throw 'text'
      },
    },
    later: {
      run: () => {
        setTimeout(() => {
          throw new Error('outside the promise')
        }, 1)
        return forever()
      },
    },
    rejected: {
      run: () => {
        void Promise.reject(new Error('nobody waits for this'))
        return forever()
      },
    },
    unwritable: { run: () => ({ big: 1n }) },
    fine: { run: () => 'ok' },
  })
  const ids = await Promise.all(['sync', 'later', 'rejected', 'unwritable', 'fine'].map((type) => submit(type)))
  const tasks = await Promise.all(ids.map(ended))
  expect(tasks.map(({ status }) => status)).toEqual(['failed', 'failed', 'failed', 'failed', 'success'])
  expect(tasks.map(({ error }) => error?.split('\n')[0])).toEqual([
    'text',
    'Error: outside the promise',
    'Error: nobody waits for this',
    expect.stringContaining('cannot be written as JSON'),
    undefined,
  ])
})

it('retries with back-off, unless the error forbids a retry or sets its time', async () => {
  let runs = 0
  await start({
    second: {
      retry: { base: '20ms' },
      run: () => {
        runs += 1
        if (runs === 1) throw new Error('first')
        return runs
      },
    },
    never: {
      run: () => {
        throw new DoNotRetry('no use')
      },
    },
    later: {
      run: () => {
        throw new RetryAfter(3_600)
      },
    },
  })
  const [second, never, later] = await Promise.all(
    ['second', 'never', 'later'].map((type) => submit(type, { maxRetry: 3 })),
  )
  expect(await ended(second!)).toMatchObject({ status: 'success', attempts: 2, result: 2 })
  expect(await ended(never!)).toMatchObject({ status: 'failed', attempts: 1 })
  const waiting = await until(later!, ({ attempts }) => attempts === 1)
  expect(waiting.runAt - waiting.updatedAt).toBe(3_600_000)
})

it('aborts the signal at the time-out, and ends a handler that ignores it', async () => {
  await start({
    listens: {
      run: (_, { signal }) =>
        new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
    },
    ignores: { run: forever },
  })
  const ids = await Promise.all(['listens', 'ignores'].map((type) => submit(type, { processTimeoutMs: 50 })))
  for (const task of await Promise.all(ids.map(ended))) {
    expect(task).toMatchObject({ status: 'timeout', timeoutReason: 'processing', attempts: 1 })
  }
})

it('aborts the signal of a canceled task at once', async () => {
  await start({
    stoppable: {
      run: (_, { signal }) =>
        new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
    },
  })
  const id = await submit('stoppable')
  await running(id)
  await queue.cancel({ ids: [id] })
  expect(await ended(id)).toMatchObject({ status: 'canceled', deliveries: 1 })
})

it('keeps the lease of a handler that blocks the event loop for longer than the lease', async () => {
  let runs = 0
  await start({
    block: {
      run: (_, { lease }) => {
        runs += 1
        const end = Date.now() + 3 * LEASE_MS
        while (Date.now() < end);
        // As the handler itself learns, although its event loop has not turned since.
        return { runs, isHeld: lease.isHeld() }
      },
    },
  })
  // Another process would give the lease away meanwhile, if it were not renewed.
  const { spawn } = await import('node:child_process')
  const script = `import { openQueue } from ${JSON.stringify(join(import.meta.dirname, '../../src/queue/open.ts'))}
    const engine = await openQueue(process.argv[1])
    console.log('ready')
    setInterval(() => engine.sweep(100), 50)`
  const other = spawn(process.execPath, ['--input-type=module', '-e', script, queue.url])
  await new Promise((resolve) => other.stdout.once('data', resolve))
  const task = await ended(await submit('block'))
  other.kill('SIGKILL')
  expect(task).toMatchObject({ status: 'success', deliveries: 1, attempts: 1, result: { runs: 1, isHeld: true } })
})

it('lets running tasks finish at shutdown, and releases the others at no cost', async () => {
  let finish: () => void = () => undefined
  const worker = await start(
    { quick: { run: () => new Promise<void>((resolve) => (finish = resolve)) }, endless: { run: forever } },
    { shutdownMs: 300 },
  )
  const [quick, endless] = await Promise.all([submit('quick'), submit('endless')])
  await Promise.all([running(quick!), running(endless!)])
  const stopped = worker.stop()
  finish()
  await stopped
  expect((await queue.get([quick!]))[0]).toMatchObject({ status: 'success' })
  expect((await queue.get([endless!]))[0]).toMatchObject({ status: 'pending', attempts: 0, deliveries: 1 })
  expect(await queue.workers()).toEqual([])
})

it('runs no more than the limit of a type and its own concurrency', async () => {
  let now = 0
  let most = 0
  const run = async () => {
    now += 1
    most = Math.max(most, now)
    await new Promise((resolve) => setImmediate(resolve))
    now -= 1
  }
  await start({ limited: { concurrency: 3, run } }, { concurrency: 10 })
  await start({ limited: { concurrency: 3, run } }, { concurrency: 10 })
  const ids = await Promise.all(Array.from({ length: 200 }, () => submit('limited')))
  await Promise.all(ids.map(ended))
  expect(most).toBe(3)
})

it.each([
  [{ 'bad/name': { run: forever } }, /"bad.name" is not valid/],
  [{ t: {} }, /no function/],
  [{ t: { run: forever, concurrency: 0 } }, /integer of 1 or more/],
  [{ t: { run: forever, groupConcurrency: 1.5 } }, /has groupConcurrency 1.5: it must be an integer of 1 or more/],
  [{ t: { run: forever, groupTurns: 'fair' } }, /has groupTurns "fair": it must be "tasks" or "time"/],
  [{ t: { run: forever, rate: 5 } }, /not \{ max, per \}/],
  [{ t: { run: forever, rate: { max: 5 } } }, /not \{ max, per \}/],
  [{ t: { run: forever, rate: { max: 0, per: '1s' } } }, /rate.max 0: it must be an integer from 1 to 1000000/],
  [{ t: { run: forever, rate: { max: 5, per: 'soon' } } }, /rate.per: "soon" is not a duration/],
  [{ t: { run: forever, rate: { max: 5, per: '25h' } } }, /rate.per 25h: it must be 1 ms to 24 hours/],
  [{ t: { run: forever, uses: { gpu: 3 }, limits: { gpu: { max: 2 } } } }, /uses 3 of "gpu", which has 2: no task/],
  [{ t: { run: forever, uses: null } }, /must be an object of limits and units/],
  [{ t: { run: forever, retries: 3 } }, /unknown field `retries`/],
  [{ t: { run: forever, retention: '1h' } }, /retention that is no object: write `retention: /],
  [{ t: { run: forever, retention: { pending: '1h' } } }, /retention.pending: .* success, failed, canceled, timeout/],
  [{ t: { run: forever, retention: { failed: '-1h' } } }, /retention.failed: "-1h" is not a duration/],
  [{ t: { run: forever, retention: { failed: -1 } } }, /retention.failed: -1 is negative/],
  [{ t: { run: forever, retention: { failed: '367d' } } }, /retention.failed: "367d" is longer than 366 days/],
  [{ t: { run: forever, processTimeout: 'soon' } }, /processTimeout/],
  [{ t: { run: forever, payload: {} } }, /Standard Schema/],
  [{ t: { run: forever, isolate: true } }, /--handlers/],
])('refuses handlers that cannot work: %o', (handlers, message) => {
  const made = () => normalizeHandlers(handlers as never)
  expect(made).toThrow(XQueueError)
  expect(made).toThrow(message)
})

const isOpen = (port: number) =>
  new Promise<boolean>((resolve) => {
    const socket = connect(port, '127.0.0.1', () => resolve(true)).on('error', () => resolve(false))
    socket.unref().on('connect', () => socket.destroy())
  })
const untilClosed = (port: number) =>
  vi.waitFor(async () => expect(await isOpen(port)).toBe(false), { timeout: 30_000, interval: 50 })

describe('isolate', () => {
  const start = async () => {
    const file = join(import.meta.dirname, 'isolated-handlers.ts')
    return startWith(normalizeHandlers(await loadHandlers(file), file))
  }

  it('runs a handler in a thread of its own, with progress, logs and result', async () => {
    await start()
    for (const n of [1, 2]) {
      const id = await submit('report', { payload: { n } })
      const task = await ended(id)
      expect(task).toMatchObject({ status: 'success', progress: { n }, result: { id, attempt: 1, doubled: 2 * n } })
      const { lines } = (await queue.logs(id, 0, 10))!
      // Its fields are those that the handler gave, without those of the log in the thread.
      expect(lines.map(({ level, message, fields }) => [level, message, fields])).toEqual([['info', 'counting', { n }]])
    }
  })

  it('passes on the outcomes of predecessors', async () => {
    await start()
    const reports = [await submit('report', { payload: { n: 1 } }), await submit('report', { payload: { n: 2 } })]
    const { result } = await ended(await submit('join', { after: reports }))
    const report = (n: number) => ({ id: reports[n - 1], attempt: 1, doubled: 2 * n })
    expect(result).toEqual([1, 2].map((n) => ({ type: 'report', status: 'success', result: report(n) })))
    expect((await ended(await submit('join'))).result).toEqual([])
  })

  it.each(['lengths', 'lengths_here'])('reads large results of predecessors on request: %s', async (type) => {
    await start()
    const after = [await submit('large'), await submit('large'), await submit('join')]
    const { result } = await ended(await submit(type, { after }))
    const lengths = [600_000, 600_000, 0, 600_000, 600_000, 0]
    const stranger = expect.stringContaining('has not waited for "none"')
    expect(result).toEqual({ omitted: 1, stranger, lengths })
  })

  it('terminates a handler that blocks its thread, on cancel and on its time-out, while others continue', async () => {
    await start()
    const [canceled, late] = [await submit('block'), await submit('block', { processTimeoutMs: 50 })]
    await running(canceled)
    expect(await ended(await submit('report', { payload: { n: 1 } }))).toMatchObject({ status: 'success' })
    await queue.cancel({ ids: [canceled] })
    expect(await ended(canceled)).toMatchObject({ status: 'canceled' })
    expect(await ended(late)).toMatchObject({ status: 'timeout' })
  })

  it('terminates the thread of a handler that ignores its signal', async () => {
    await start()
    const id = await submit('ignore')
    const { progress } = await until(id, (task) => task.progress !== null)
    const { port } = progress as { port: number }
    expect(await isOpen(port)).toBe(true)
    await queue.cancel({ ids: [id] })
    await untilClosed(port)
  })

  it('uses no thread again that has ended while it was idle', async () => {
    await start()
    const { result } = await ended(await submit('leave_later'))
    await untilClosed((result as { port: number }).port)
    const next = await submit('report', { payload: { n: 1 }, maxRetry: 3 })
    expect(await ended(next)).toMatchObject({ status: 'success' })
  })

  it('passes on the signal', async () => {
    await start()
    const id = await submit('heed')
    await running(id)
    await queue.cancel({ ids: [id] })
    expect(await ended(id)).toMatchObject({ status: 'canceled' })
  })

  it.each([
    ['leave', /thread of the handler ended \(code 7\)/],
    ['stray', /stray/],
    ['uncloneable', /result is a function, which JSON cannot represent/],
  ])('fails only the task of the handler %s', async (type, error) => {
    await start()
    expect(await ended(await submit(type))).toMatchObject({ status: 'failed', error: expect.stringMatching(error) })
    expect(await ended(await submit('report', { payload: { n: 3 } }))).toMatchObject({ status: 'success' })
  })

  it('recognizes an error that forbids a retry', async () => {
    await start()
    expect(await ended(await submit('refuse', { maxRetry: 5 }))).toMatchObject({ status: 'failed', attempts: 1 })
  })
})
