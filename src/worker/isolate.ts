import { Worker as Thread } from 'node:worker_threads'
import type { Predecessor } from '../task/flow.ts'
import { JsonText } from '../task/json.ts'
import { DoNotRetry, RateLimited, type Retry, RetryAfter } from '../task/retry.ts'
import type { Progress } from '../task/task.ts'
import type { TaskView } from '../task/task-view.ts'
import type { TraceContext } from '../task/trace-context.ts'
import { activeTraceContext } from '../trace/context.ts'
import type { HandlerContext, TaskWith } from './handler.ts'
import { HeldLease, type SharedHold } from './shared-leases.ts'

/** Time for a handler to stop after its signal before its thread is terminated. */
const TERMINATE_MS = 1_000
/** Loading a module takes tens of milliseconds, so a thread is reused after a clean end. */
const IDLE_THREADS_MAX = 16

/** Messages to and from an isolated handler's thread. */
export type ToThread =
  | {
      kind: 'run'
      type: string
      task: Omit<TaskView, 'payload'>
      payload: unknown
      attempt: number
      hold: SharedHold
      predecessors: readonly Predecessor[]
      traceContext: TraceContext
    }
  | { kind: 'abort'; reason: string }
  | { kind: 'predecessor'; id: string; found: Predecessor }
  | { kind: 'predecessor'; id: string; error: string }
export type FromThread =
  | { kind: 'predecessor'; id: string }
  | { kind: 'progress'; number: number }
  | { kind: 'progress'; text: string }
  | { kind: 'usage'; units: Readonly<Record<string, number>> }
  | { kind: 'log'; level: 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace'; fields: object; message: string }
  /** JSON; undefined if there is none. */
  | { kind: 'returned'; text: string | undefined }
  /** `ends`: an uncaught error, after which the thread ends. */
  | { kind: 'thrown'; error: string; retry: Retry; ends: boolean }

const idle = new Map<string, Thread[]>()

/**
 * A handler's `run` in its own thread: a handler that blocks, leaks or exits affects only that thread. The thread is
 * terminated if the handler does not stop within a second after its signal.
 *
 * @param file the module that exports the handlers; the thread loads it again
 */
export function runInThread(file: string, type: string) {
  return async (task: TaskWith<unknown>, context: HandlerContext): Promise<unknown> => {
    context.signal.throwIfAborted()
    const thread = idle.get(file)?.pop() ?? startThread(file)
    const { promise, resolve, reject } = Promise.withResolvers<unknown>()
    let terminate: NodeJS.Timeout | undefined
    const post = (message: ToThread) => thread.postMessage(message)
    const stop = () => {
      post({ kind: 'abort', reason: String(context.signal.reason) })
      terminate = setTimeout(() => void thread.terminate(), TERMINATE_MS)
    }
    const onMessage = (message: FromThread) => {
      switch (message.kind) {
        case 'predecessor':
          context.predecessor(message.id).then(
            (found) => post({ ...message, found }),
            (error: Error) => post({ ...message, error: error.message }),
          )
          return
        case 'progress':
          context.progress(('text' in message ? new JsonText(message.text) : message.number) as Progress)
          return
        case 'usage':
          context.usage(message.units)
          return
        case 'log':
          context.log[message.level](message.fields, message.message)
          return
        case 'returned':
          keep(file, thread)
          resolve(message.text === undefined ? undefined : new JsonText(message.text))
          return
        case 'thrown':
          if (!message.ends) keep(file, thread)
          reject(thrownOf(message))
      }
    }
    const leave = (code: number) => reject(new Error(`the thread of the handler ended (code ${code})`))
    thread.ref()
    thread.on('message', onMessage)
    thread.once('error', reject)
    thread.once('exit', leave)
    context.signal.addEventListener('abort', stop, { once: true })
    const { payload, ...rest } = task
    const { attempt, predecessors } = context
    const hold = HeldLease.sharedBy(context.lease)
    post({ kind: 'run', type, task: rest, payload, attempt, hold, predecessors, traceContext: activeTraceContext() })
    return promise.finally(() => {
      clearTimeout(terminate)
      context.signal.removeEventListener('abort', stop)
      thread.off('message', onMessage)
      thread.off('error', reject)
      thread.off('exit', leave)
    })
  }
}

function startThread(file: string): Thread {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
  const thread = new Thread(new URL(`./isolate-thread.${extension}`, import.meta.url), { workerData: file })
  // An uncaught error ends the thread; it is not reused.
  thread.on('error', () => undefined)
  thread.once('exit', () => {
    idle.set(
      file,
      (idle.get(file) ?? []).filter((other) => other !== thread),
    )
  })
  return thread
}

function keep(file: string, thread: Thread): void {
  const threads = idle.get(file) ?? []
  idle.set(file, threads)
  thread.unref()
  if (threads.length < IDLE_THREADS_MAX) threads.push(thread)
  else void thread.terminate()
}

function thrownOf({ error, retry: decided }: Extract<FromThread, { kind: 'thrown' }>): Error {
  const { retry, delayMs, holdMs = null, limit = null } = decided
  const again = () => (delayMs === null ? new Error(error) : new RetryAfter(delayMs / 1_000))
  const thrown =
    holdMs !== null ? new RateLimited({ for: holdMs / 1_000, limit }) : retry ? again() : new DoNotRetry(error)
  thrown.stack = error
  return thrown
}
