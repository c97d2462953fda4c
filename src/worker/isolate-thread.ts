import { parentPort, workerData } from 'node:worker_threads'
import { pino } from 'pino'
import type { Predecessor } from '../task/flow.ts'
import { unwritableText, write } from '../task/json.ts'
import { failureOf, type Outcome } from '../task/outcome.ts'
import { retryOf } from '../task/retry.ts'
import type { Progress } from '../task/task.ts'
import { describeError } from '../task/thrown.ts'
import { within } from '../trace/context.ts'
import type { Handlers } from './handler.ts'
import { loadHandlers } from './handlers.ts'
import type { FromThread, ToThread } from './isolate.ts'
import { HeldLease } from './shared-leases.ts'

/** Entry of an isolated handler's thread: loads the handlers again and runs one task after another. */
const port = parentPort!
let handlers: Promise<Handlers> | undefined
let abort = new AbortController()
/** Who waits for a predecessor, by its id. */
const asked = new Map<string, PromiseWithResolvers<Predecessor>[]>()

const log = pino(
  { level: 'trace', base: null, timestamp: false },
  {
    write(line: string) {
      const { level, msg, ...fields } = JSON.parse(line)
      tell({ kind: 'log', level: pino.levels.labels[level] as 'info', fields, message: msg })
    },
  },
)

port.on('message', (message: ToThread) => {
  if (message.kind === 'abort') abort.abort(new DOMException(message.reason, 'AbortError'))
  else if (message.kind === 'predecessor') read(message)
  else void run(message)
})

async function run(message: Extract<ToThread, { kind: 'run' }>): Promise<void> {
  const { type, task, payload, attempt, hold, predecessors, traceContext } = message
  abort = new AbortController()
  try {
    handlers ??= loadHandlers(workerData)
    const handler = (await handlers)[type]!
    const progress = (value: Progress) => {
      // Written here, because a copy in the other thread would have lost `toJSON`.
      const reported = typeof value === 'number' ? null : write(value)
      if (reported === null) tell({ kind: 'progress', number: value as number })
      else tell({ kind: 'progress', text: 'written' in reported ? reported.written.text : 'null' })
    }
    const lease = new HeldLease(hold, Date.now)
    const usage = (units: Readonly<Record<string, number>>) => tell({ kind: 'usage', units })
    const context = { signal: abort.signal, attempt, lease, predecessors, predecessor, progress, usage, log }
    const result = await within(traceContext, () => handler.run({ ...task, payload } as never, context))
    tell(returned(result))
  } catch (thrown) {
    tell(failed(thrown, false))
  }
}

/** Asks the process, which has the store. */
function predecessor(id: string): Promise<Predecessor> {
  const waiting = Promise.withResolvers<Predecessor>()
  asked.set(id, [...(asked.get(id) ?? []), waiting])
  tell({ kind: 'predecessor', id })
  return waiting.promise
}

function read(message: Extract<ToThread, { kind: 'predecessor' }>): void {
  const [first, ...others] = asked.get(message.id) ?? []
  if (others.length > 0) asked.set(message.id, others)
  else asked.delete(message.id)
  if ('found' in message) first?.resolve(message.found)
  else first?.reject(new Error(message.error))
}

function returned(result: unknown): FromThread {
  if (result === undefined || result === null) return { kind: 'returned', text: undefined }
  const outcome = write(result)
  if ('written' in outcome) return { kind: 'returned', text: outcome.written.text }
  const error = unwritableText('result', outcome.fault)
  return { kind: 'thrown', error, retry: { retry: false, delayMs: null, unusable: null }, ends: false }
}

function failed(thrown: unknown, ends: boolean): FromThread {
  const retry = retryOf(thrown)
  const { error } = failureOf(describeError(thrown), retry) as Extract<Outcome, { error: string }>
  return { kind: 'thrown', error, retry, ends }
}

/** Node cannot transfer every thrown value to another thread, so its description is sent. */
function leave(thrown: unknown): void {
  tell(failed(thrown, true))
  process.exit(1)
}
process.on('uncaughtException', leave)
process.on('unhandledRejection', leave)

function tell(message: FromThread): void {
  port.postMessage(message)
}
