import { pino } from 'pino'
import { beforeEach, expect, it, onTestFinished, vi } from 'vitest'
import type { Queue, Turn } from '../../src/queue/queue.ts'
import { XQueueError } from '../../src/task/errors.ts'
import { completeSpec } from '../../src/task/task.ts'
import type { HandlerContext } from '../../src/worker/handler.ts'
import { normalizeHandlers } from '../../src/worker/handlers.ts'
import { Worker } from '../../src/worker/worker.ts'
import { openTestQueue } from '../fixtures/server.ts'

/** Outcomes reach the store although turns that report them fail. */

let queue: Queue
beforeEach(async () => {
  queue = await openTestQueue('sqlite::memory:')
  await queue.configureType('t', { declared: true })
})

const hasOutcomes = ({ outcomes = [] }: Turn) => outcomes.length > 0
const reportsAnything = ({ outcomes = [], renewals = [], logs = [] }: Turn) =>
  outcomes.length + renewals.length + logs.length > 0

/** The queue, with turns with outcomes, or others, that fail as `refusal` says. */
function failing(refusal: (outcomes: number, call: number) => XQueueError | null, concerns = hasOutcomes): Queue {
  let calls = 0
  return new Proxy(queue, {
    get: (target, name) => {
      const value = Reflect.get(target, name)
      if (typeof value !== 'function') return value
      if (name !== 'turn') return value.bind(target)
      return async (turn: Turn) => {
        if (!concerns(turn)) return target.turn(turn)
        calls += 1
        const error = refusal(turn.outcomes?.length ?? 0, calls)
        if (error) throw error
        return target.turn(turn)
      }
    },
  })
}

/** Runs tasks that end in the same moment; they must all succeed at their first delivery. */
async function runTogether(count: number, source: Queue): Promise<void> {
  const started: (() => void)[] = []
  const run = () => new Promise<void>((resolve) => started.push(resolve))
  const handlers = normalizeHandlers({ t: { run } })
  const worker = new Worker({ queue: source, handlers, logger: pino({ level: 'silent' }), concurrency: count })
  onTestFinished(() => worker.stopNow())
  await worker.start()
  const submitted = await queue.submit(Array.from({ length: count }, () => completeSpec({ type: 't', maxRetry: 0 })))
  await vi.waitFor(() => expect(started).toHaveLength(count))
  for (const end of started) end()
  await vi.waitFor(
    async () => {
      for (const task of await queue.get(submitted.map(({ task }) => task.id))) {
        expect(task).toMatchObject({ status: 'success', attempts: 1, deliveries: 1 })
      }
    },
    { timeout: 10_000 },
  )
}

const unavailable = () => new XQueueError('engine_unavailable', 'away')

it('reports outcomes again after a turn that failed because the store was unavailable', async () => {
  await runTogether(
    3,
    failing((_, call) => (call <= 2 ? unavailable() : null)),
  )
})

it('reports all outcomes of a refused turn, also if the store becomes unavailable meanwhile', async () => {
  let refusals = 0
  const source = failing((outcomes) => {
    if (outcomes > 1) return new XQueueError('invalid_request', 'one of them cannot be stored')
    refusals += 1
    return refusals === 2 ? unavailable() : null
  })
  await runTogether(4, source)
})

it('does not count an outage as a refusal of the outcome that is reported alone', async () => {
  let outages = 0
  const source = failing((outcomes) => {
    if (outcomes > 1) return new XQueueError('invalid_request', 'one of them cannot be stored')
    outages += 1
    return outages <= 4 ? unavailable() : null
  })
  await runTogether(2, source)
})

it('reports outcomes again after more refusals of a key with too many calls than an outcome has tries', async () => {
  const tooMany = new XQueueError('too_many_calls', 'too many calls', { retry_after: 1 })
  await runTogether(
    3,
    failing((_, call) => (call <= 6 ? tooMany : null)),
  )
})

it('sends the lines and the progress of a turn that failed again, also of an attempt that goes on', async () => {
  let [isAway, turns] = [false, 0]
  const source = failing(() => {
    turns += 1
    return isAway ? unavailable() : null
  }, reportsAnything)
  const asks: (() => void)[] = []
  const step = () => new Promise<void>((resolve) => asks.push(resolve))
  const run = async (_task: unknown, { log, progress }: HandlerContext) => {
    for (const [text, percent] of [
      ['first', 30],
      ['second', 60],
    ] as const) {
      log.info(text)
      progress(percent)
      await step()
    }
  }
  const handlers = normalizeHandlers({ t: { run } })
  const worker = new Worker({ queue: source, handlers, logger: pino({ level: 'silent' }) })
  onTestFinished(() => {
    isAway = false
    return worker.stopNow()
  })
  isAway = true
  await worker.start()
  const id = (await queue.submit([completeSpec({ type: 't' })]))[0]!.task.id
  const seen = async () => {
    const lines = (await queue.logs(id, 0, 9))!.lines.map(({ message }) => message)
    const [task] = await queue.get([id])
    return [task!.status, task!.progress, lines.join(' ')]
  }
  /** Lets turns fail: at first one with progress, then one with lines, and those that bring them again. */
  const fail = async (count: number) => {
    const before = turns
    await vi.waitFor(() => expect(turns).toBeGreaterThanOrEqual(before + count), 10_000)
    isAway = false
  }
  await fail(3)
  await vi.waitFor(async () => expect(await seen()).toEqual(['processing', 30, 'first']), 10_000)
  isAway = true
  asks[0]!()
  await vi.waitFor(() => expect(asks).toHaveLength(2))
  asks[1]!()
  await fail(3)
  await vi.waitFor(async () => expect(await seen()).toEqual(['success', 60, 'first second']), 10_000)
})
