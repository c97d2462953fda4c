import { parentPort, workerData } from 'node:worker_threads'
import { pino } from 'pino'
import { describeError } from '../task/errors.ts'
import { DoNotRetry, RetryAfter } from '../task/retry.ts'
import type { Progress } from '../task/task.ts'
import { within } from '../trace/context.ts'
import { checkProgress } from './attempt.ts'
import { type Handlers, loadHandlers } from './handlers.ts'
import type { FromThread, ToThread } from './isolate.ts'

/** The entry of an isolated handler's thread: loads the handlers once more and runs one task after the other. */
const port = parentPort!
let handlers: Promise<Handlers> | undefined
let abort = new AbortController()

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
  else void run(message)
})

async function run(message: Extract<ToThread, { kind: 'run' }>): Promise<void> {
  const { type, task, payload, attempt, predecessors, traceContext } = message
  abort = new AbortController()
  try {
    handlers ??= loadHandlers(workerData)
    const handler = (await handlers)[type]!
    const progress = (value: Progress) => {
      checkProgress(value)
      tell({ kind: 'progress', value })
    }
    const context = { signal: abort.signal, attempt, predecessors, progress, log }
    const result = await within(traceContext, () => handler.run({ ...task, payload } as never, context))
    tell({ kind: 'returned', result })
  } catch (thrown) {
    const delayMs = thrown instanceof RetryAfter ? thrown.delayMs : null
    tell({ kind: 'thrown', error: describeError(thrown), retry: !(thrown instanceof DoNotRetry), delayMs })
  }
}

function tell(message: FromThread): void {
  port.postMessage(message)
}
