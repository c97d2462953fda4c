import { pino } from 'pino'
import { beforeEach, expect, it, onTestFinished, vi } from 'vitest'
import type { Queue, Turn } from '../../src/queue/queue.ts'
import { XQueueError } from '../../src/task/errors.ts'
import { completeSpec } from '../../src/task/task.ts'
import { normalizeHandlers } from '../../src/worker/handlers.ts'
import { Worker } from '../../src/worker/worker.ts'
import { openTestQueue } from '../fixtures/server.ts'

/** Outcomes reach the store although turns that report them fail. */

let queue: Queue
beforeEach(async () => {
  queue = await openTestQueue('sqlite::memory:')
  await queue.configureType('t', { declared: true })
})

/** The queue, with turns with outcomes that fail as `refusal` says. */
function failing(refusal: (outcomes: number, call: number) => XQueueError | null): Queue {
  let calls = 0
  return new Proxy(queue, {
    get: (target, name) => {
      const value = Reflect.get(target, name)
      if (typeof value !== 'function') return value
      if (name !== 'turn') return value.bind(target)
      return async (turn: Turn) => {
        const outcomes = turn.outcomes?.length ?? 0
        if (outcomes > 0) calls += 1
        const error = outcomes > 0 ? refusal(outcomes, calls) : null
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
