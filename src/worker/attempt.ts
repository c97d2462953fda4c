import { AsyncLocalStorage } from 'node:async_hooks'
import type { Span } from '@opentelemetry/api'
import type { StandardSchemaV1 } from '@standard-schema/spec'
import type { Logger } from 'pino'
import type { Lease } from '../queue/queue.ts'
import type { Predecessor } from '../task/flow.ts'
import { type Json, type JsonText, joined, write } from '../task/json.ts'
import { failureOf, type Outcome } from '../task/outcome.ts'
import { reportedProgress } from '../task/progress.ts'
import { DoNotRetry, retryOf } from '../task/retry.ts'
import { TASK_LIMITS } from '../task/task.ts'
import { viewOf } from '../task/task-view.ts'
import { describeError, errorOf } from '../task/thrown.ts'
import type { Time } from '../task/time.ts'
import { type Uses, usageError } from '../task/uses.ts'
import { endProcessing, inSpan, logFields, startProcessing } from '../trace/spans.ts'
import type { HandlerContext, HandlerLease } from './handler.ts'
import type { RegisteredHandler } from './handlers.ts'
import { keptLog } from './task-log.ts'

/** Maximum of a Node timer. */
const TIMER_MS_MAX = 2 ** 31 - 1

/** The attempt of the running code, so that an exception outside of the handler's promise fails only its task. */
const running = new AsyncLocalStorage<Attempt>()

export function currentAttempt(): Attempt | undefined {
  return running.getStore()
}

export interface AttemptOptions {
  lease: Lease
  /** The lease for the handler; made on first use. */
  held: () => HandlerLease
  handler: RegisteredHandler
  logger: Logger
  time: Time
  /** Called once, with the outcome of the lease. */
  ended: (outcome: Outcome) => void
  progressed: (value: number | JsonText) => void
  /** Called for each line that the handler logs; undefined: no lines are kept. */
  logged?: ((line: string) => void) | undefined
  /** Reads one that the task has waited for; null: there is no such one. */
  read: (id: string) => Promise<Predecessor | null>
}

/**
 * One run of a handler: `run` → the payload is parsed → the handler runs → its result is checked → `ended`, exactly
 * once. The first of these ends it: the handler, its deadline, `fail`, or `release`. Later actions of the handler are
 * ignored.
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
  #hasIgnored = false
  #usage: Uses | undefined

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
      this.#end(failureFrom(error), error)
    }
  }

  /** Aborts the handler's signal after a cancellation. */
  cancel(): void {
    this.#stop(new DOMException('the task was canceled', 'AbortError'))
  }

  /** Fails the attempt with an error from outside of its promise. */
  fail(error: unknown): void {
    this.#end(failureFrom(error), error)
    this.#stop(error)
  }

  /** Releases the task at no cost at a shutdown. */
  release(): void {
    this.#end({ kind: 'released' })
    this.#stop(new DOMException('the worker is shutting down', 'AbortError'))
  }

  /** The lease is lost: no outcome is reported. */
  abandon(): void {
    this.#close(null)
    this.#stop(new DOMException('the lease was lost', 'AbortError'))
  }

  async #handle(span: Span): Promise<unknown> {
    const { handler, held } = this.#options
    const { task } = this.lease
    const payload = handler.payload === null ? task.payload : await parsePayload(handler.payload, task.payload)
    const abort = this.#abortController
    const log = () => this.#log(span)
    const context: HandlerContext = {
      get signal() {
        return abort().signal
      },
      attempt: task.attempts + 1,
      get lease() {
        return held()
      },
      predecessors: this.lease.predecessors,
      predecessor: (id) => this.#predecessor(id),
      progress: (value) => this.#report(value),
      usage: (units) => this.#use(units),
      get log() {
        return log()
      },
    }
    return handler.run(viewOf(task, payload) as never, context)
  }

  #log(span: Span): Logger {
    const { logger, logged, time } = this.#options
    const { id, type, attempts } = this.lease.task
    const log = logger.child({ task_id: id, type, attempt: attempts + 1, ...logFields(span) })
    if (!logged) return log
    const keep = (line: string) => {
      if (!this.#over) logged(line)
    }
    return keptLog(log, keep, time.now)
  }

  async #predecessor(id: string): Promise<Predecessor> {
    const handed = this.lease.predecessors.find((one) => one.id === id)
    if (handed && !handed.omitted) return handed
    const read = handed && (await this.#options.read(id))
    if (read) return read
    throw new Error(`this task has not waited for ${JSON.stringify(id)}: give the id of one of its predecessors`)
  }

  /** Invalid progress is ignored and logged once. */
  #report(value: unknown): void {
    if (this.#over) return
    const reported = reportedProgress(value)
    if ('progress' in reported) {
      this.#options.progressed(reported.progress)
      return
    }
    if (this.#hasIgnored) return
    this.#hasIgnored = true
    const { id, type } = this.lease.task
    this.#options.logger.warn({ task_id: id, type, why: reported.ignored }, 'invalid progress was ignored')
  }

  /** An invalid usage is ignored and logged. */
  #use(units: unknown): void {
    const wrong = usageError(units)
    if (!wrong) {
      this.#usage = { ...(units as Uses) }
      return
    }
    const { id, type } = this.lease.task
    this.#options.logger.warn({ task_id: id, type, why: `${wrong.path} ${wrong.message}` }, 'invalid usage was ignored')
  }

  /** Created on first use, because most handlers do not use their signal. */
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
      this.#stop(new DOMException('the attempt timed out', 'TimeoutError'))
    }
    arm(deadlineAt - now())
  }

  #end(ended: Outcome, thrown?: unknown): void {
    const isCounted = this.#usage !== undefined && (ended.kind === 'success' || ended.kind === 'failure')
    const outcome: Outcome = isCounted ? { ...ended, usage: this.#usage! } : ended
    if (!this.#close(outcome, thrown)) return
    this.#logFailure(outcome, thrown)
    this.#options.ended(outcome)
  }

  #logFailure(outcome: Outcome, thrown: unknown): void {
    const { logger } = this.#options
    const { task } = this.lease
    const fields = { task_id: task.id, type: task.type, attempt: task.attempts + 1 }
    if (outcome.kind === 'timeout') logger.warn(fields, 'an attempt timed out')
    if (outcome.kind === 'held')
      logger.info(
        { ...fields, why: outcome.error, ms: outcome.holdMs, ...(outcome.limit ? { limit: outcome.limit } : {}) },
        outcome.limit ? 'a limit is held' : 'a type is held',
      )
    // A canceled attempt is not logged as failed.
    if (outcome.kind !== 'failure' || this.#abortReason !== undefined) return
    const reason = thrown === undefined ? { why: outcome.error } : { err: errorOf(thrown) }
    logger.warn({ ...fields, ...reason }, 'an attempt failed')
  }

  /** False if the attempt had already ended. */
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
  throw new DoNotRetry(`the payload does not match the handler's schema: ${issues.join('; ')}`)
}

function failureFrom(thrown: unknown): Outcome {
  return failureOf(describeError(thrown), retryOf(thrown))
}

/** Written once, because the handler may change its return value later. */
function successOf(result: unknown): Outcome {
  if (result === undefined || result === null) return { kind: 'success', result: null }
  const failed = (why: string) => failureOf(why, { retry: false, delayMs: null, unusable: null })
  const outcome = write(result)
  if ('fault' in outcome) {
    const { path, message } = outcome.fault
    return failed(`the result cannot be written as JSON: ${joined('result', path)} ${message}`)
  }
  const bytes = Buffer.byteLength(outcome.written.text)
  if (bytes > TASK_LIMITS.resultBytesMax) {
    return failed(`the result has ${bytes} bytes, the maximum is ${TASK_LIMITS.resultBytesMax}: store it elsewhere`)
  }
  return { kind: 'success', result: outcome.written }
}
