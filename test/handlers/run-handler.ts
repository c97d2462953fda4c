import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { pino } from 'pino'
import { DoNotRetry, RetryAfter } from '../../src/task/retry.ts'
import { completeSpec } from '../../src/task/task.ts'
import { viewOf } from '../../src/task/task-view.ts'
import type { Handler, HandlerContext } from '../../src/worker/handler.ts'

export const ID = '01912345-6789-7abc-8def-0123456789ab'
export const KIB = 1024

/** Runs a handler on a payload as a worker would, without the queue around it. */
export async function run<Payload, Result>(
  handler: Handler<Payload, Result>,
  payload: Payload,
  more: Partial<HandlerContext> = {},
): Promise<Result> {
  const task = viewOf({
    ...completeSpec({ type: 'test' }),
    ...{ id: ID, payload: null, status: 'processing' as const, attempts: 0, deliveries: 1, timeoutReason: null },
    ...{ createdAt: 0, runAt: 0, startedAt: 0, updatedAt: 0, completedAt: null, workerId: 'w' },
    ...{ progress: null, result: null, error: null, tags: {}, idempotencyKey: null, after: [] },
  })
  const { signal } = new AbortController()
  const log = pino({ level: 'silent' })
  const predecessor = () => Promise.reject(new Error('there are none'))
  const lease = { fence: 1, isHeld: () => true }
  const none = { lease, predecessors: [], predecessor, progress: () => undefined, usage: () => undefined }
  return handler.run({ ...task, payload }, { signal, attempt: 1, ...none, log, ...more })
}

/** The effect that a run has on its task: a number is the delay of the retry. */
export async function effectOf(
  running: Promise<unknown>,
): Promise<'succeeds' | 'fails for good' | 'is retried' | number> {
  try {
    await running
    return 'succeeds'
  } catch (error) {
    if (error instanceof DoNotRetry) return 'fails for good'
    return error instanceof RetryAfter ? (error.delayMs ?? Number.NaN) : 'is retried'
  }
}

export const portOf = (server: { address(): unknown }) => (server.address() as AddressInfo).port

/** A port without a listener. */
export async function closedPort(): Promise<number> {
  const server = createServer()
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const port = portOf(server)
  await new Promise((closed) => server.close(closed))
  return port
}
