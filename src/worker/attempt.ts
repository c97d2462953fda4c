import { AsyncLocalStorage } from 'node:async_hooks'
import type { Span } from '@opentelemetry/api'
import type { StandardSchemaV1 } from '@standard-schema/spec'
import type { Logger } from 'pino'
import type { Lease } from '../engine/engine.ts'
import { describeError } from '../task/errors.ts'
import { isTooDeep, type Json, TOO_DEEP } from '../task/json.ts'
import type { Outcome } from '../task/outcome.ts'
import { DoNotRetry, RetryAfter } from '../task/retry.ts'
import { type Progress, TASK_LIMITS } from '../task/task.ts'
import type { Time } from '../task/time.ts'
import { endProcessing, inSpan, logFields, startProcessing } from '../trace/spans.ts'
import type { HandlerContext, RegisteredHandler } from './handlers.ts'

/** Node cannot wait longer in one timer. */
const TIMER_MS_MAX = 2 ** 31 - 1

/** Which attempt the running code belongs to: also an exception outside the handler's promise fails that task alone. */
const running = new AsyncLocalStorage<Attempt>()

export function currentAttempt(): Attempt | undefined {
  return running.getStore()
}

export interface AttemptOptions {
  lease: Lease
  handler: RegisteredHandler
  logger: Logger
  time: Time
  /** Called once, with what the lease is to be settled with. */
  ended: (outcome: Outcome) => void
  progressed: (value: Progress) => void
}

/**
 * One run of a handler: `run` → the payload is parsed → the handler runs → its result is checked → `ended`, exactly
 * once. Whichever comes first ends it: the handler, its deadline, `fail`, or `release`. What the handler does after
 * that is ignored.
 */
export class Attempt {
  readonly lease: Lease
  readonly startedAt: number
  readonly #options: AttemptOptions
  #abort: AbortController | undefined
  #abortReason: unknown
  #callOffDeadline: (() => void) | undefined
  #span: Span | undefined
  #over = false

  constructor(options: AttemptOptions) {
    this.lease = options.lease
    this.#options = options
    this.startedAt = options.time.now()
  }

  async run(): Promise<void> {
    this.#armDeadline()
    const span = startProcessing(this.lease.task)
    this.#span = span
    try {
      const result = await running.run(this, () => inSpan(span, () => this.#handle(span)))
      this.#end(successOf(result))
    } catch (error) {
      this.#end(failureOf(error), error)
    }
  }

  /** Asks the handler to stop: it is canceled. */
  cancel(): void {
    this.#stop(new DOMException('the task was canceled', 'AbortError'))
  }

  /** Ends it with an error that came from outside its promise. */
  fail(error: unknown): void {
    this.#end(failureOf(error), error)
    this.#stop(error)
  }

  /** Gives the task back at no cost: the worker shuts down. */
  release(): void {
    this.#end({ kind: 'released' })
    this.#stop(new DOMException('the worker is shutting down', 'AbortError'))
  }

  /** The lease is gone: nothing is to be settled any more. */
  abandon(): void {
    this.#close(null)
    this.#stop(new DOMException('the lease was lost', 'AbortError'))
  }

  async #handle(span: Span): Promise<unknown> {
    const { handler, progressed, logger } = this.#options
    const { task } = this.lease
    const payload = handler.payload === null ? task.payload : await parsePayload(handler.payload, task.payload)
    const abort = this.#abortController
    const context: HandlerContext = {
      get signal() {
        return abort().signal
      },
      attempt: task.attempts + 1,
      predecessors: this.lease.predecessors,
      progress: (value) => {
        checkProgress(value)
        if (!this.#over) progressed(value)
      },
      get log() {
        return logger.child({ task_id: task.id, type: task.type, attempt: task.attempts + 1, ...logFields(span) })
      },
    }
    return handler.run({ ...task, payload } as never, context)
  }

  /** Made when it is first asked for: most handlers never look at their signal. */
  readonly #abortController = (): AbortController => {
    if (!this.#abort) {
      this.#abort = new AbortController()
      if (this.#abortReason !== undefined) this.#abort.abort(this.#abortReason)
    }
    return this.#abort
  }

  #stop(reason: unknown): void {
    this.#abortReason ??= reason
    this.#abort?.abort(reason)
  }

  #armDeadline(): void {
    const { deadlineAt } = this.lease
    if (deadlineAt === null) return
    const { now, after } = this.#options.time
    const arm = (leftMs: number) => {
      this.#callOffDeadline = after(Math.min(Math.max(leftMs, 0), TIMER_MS_MAX), timeOut)
    }
    const timeOut = () => {
      const leftMs = deadlineAt - now()
      if (leftMs > 0) {
        arm(leftMs)
        return
      }
      this.#end({ kind: 'timeout' })
      this.#stop(new DOMException('the attempt ran out of time', 'TimeoutError'))
    }
    arm(deadlineAt - now())
  }

  #end(outcome: Outcome, thrown?: unknown): void {
    if (this.#close(outcome, thrown)) this.#options.ended(outcome)
  }

  /** False when it had ended before. */
  #close(outcome: Outcome | null, thrown?: unknown): boolean {
    if (this.#over) return false
    this.#over = true
    this.#callOffDeadline?.()
    if (this.#span) endProcessing(this.#span, outcome, thrown)
    return true
  }
}

async function parsePayload(schema: StandardSchemaV1, payload: Json): Promise<unknown> {
  const parsed = await schema['~standard'].validate(payload)
  if (!parsed.issues) return parsed.value
  const issues = parsed.issues.map(({ message, path }) => `${path?.join('.') ?? 'payload'}: ${message}`)
  throw new DoNotRetry(`the payload does not fit the handler's schema: ${issues.join('; ')}`)
}

/** @throws TypeError for what is no progress */
export function checkProgress(value: unknown): void {
  const inRange = typeof value === 'number' && value >= 0 && value <= 100
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value)
  if (!inRange && !isObject) throw new TypeError('progress is a number from 0 to 100, or an object')
  JSON.stringify(value)
  if (isTooDeep(value)) throw new TypeError(`the progress ${TOO_DEEP}`)
}

function successOf(result: unknown): Outcome {
  if (result === undefined || result === null) return { kind: 'success', result: null }
  const failed = (why: string): Outcome => ({ kind: 'failure', error: why, retry: false, delayMs: null })
  try {
    const text = JSON.stringify(result) as string | undefined
    if (text === undefined) return failed(`the handler returned a ${typeof result}, which JSON cannot carry`)
    const bytes = Buffer.byteLength(text)
    if (bytes > TASK_LIMITS.resultBytesMax) {
      return failed(`the result has ${bytes} bytes and may have ${TASK_LIMITS.resultBytesMax}: keep it elsewhere`)
    }
    if (isTooDeep(result)) return failed(`the result ${TOO_DEEP}`)
    return { kind: 'success', result: result as Json }
  } catch (error) {
    return failed(`the result cannot be written as JSON: ${describeError(error)}`)
  }
}

function failureOf(thrown: unknown): Outcome {
  const error = describeError(thrown).slice(0, TASK_LIMITS.errorCharsMax)
  return {
    kind: 'failure',
    error,
    retry: !(thrown instanceof DoNotRetry),
    delayMs: thrown instanceof RetryAfter ? thrown.delayMs : null,
  }
}
