import { AsyncLocalStorage } from 'node:async_hooks'
import type { Span } from '@opentelemetry/api'
import type { StandardSchemaV1 } from '@standard-schema/spec'
import type { Logger } from 'pino'
import type { Lease } from '../queue/queue.ts'
import type { Predecessor } from '../task/flow.ts'
import { type Json, type JsonText, unwritableText, write } from '../task/json.ts'
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

/** The attempt of the running code, so that an exception outside of the handler's promise fails only its task. */
const running = new AsyncLocalStorage<Attempt>()

export function currentAttempt(): Attempt | undefined {
  return running.getStore()
}

/** What all attempts of a worker share. */
export interface AttemptHost {
  logger: Logger
  time: Time
  /** The lease for the handler. */
  held: (attempt: Attempt) => HandlerLease
  /** Called once for each attempt, with the outcome of the lease. */
  ended: (attempt: Attempt, outcome: Outcome) => void
  progressed: (attempt: Attempt, value: number | JsonText) => void
  /** Called for each line that the handler logs; undefined: no lines are kept. */
  logged: ((attempt: Attempt, line: string) => void) | undefined
  /** Reads one that the task has waited for; null: there is no such one. */
  read: (attempt: Attempt, id: string) => Promise<Predecessor | null>
}

/**
 * One run of a handler: `run` → the payload is parsed → the handler runs → its result is checked → `ended`, exactly
 * once. The first of these ends it: the handler, `checkDeadline`, `fail`, or `release`. Later actions of the handler
 * are ignored.
 */
export class Attempt {
  readonly lease: Lease
  /** In the worker's memory of leases. */
  readonly slot: number
  readonly startedAt: number
  /** Of the monotonic clock. */
  readonly since: number
  readonly #host: AttemptHost
  readonly #handler: RegisteredHandler
  readonly #abort = new AbortController()
  #span: Span | null = null
  #over = false
  #hasIgnored = false
  #usage: Uses | undefined

  constructor(host: AttemptHost, handler: RegisteredHandler, lease: Lease, slot: number) {
    this.lease = lease
    this.slot = slot
    this.#host = host
    this.#handler = handler
    this.startedAt = host.time.now()
    this.since = host.time.elapsed()
  }

  get signal(): AbortSignal {
    return this.#abort.signal
  }

  get heldLease(): HandlerLease {
    return this.#host.held(this)
  }

  async run(): Promise<void> {
    const span = startProcessing(this.lease.task)
    this.#span = span
    try {
      const handle = span === null ? () => this.#handle() : () => inSpan(span, () => this.#handle())
      this.#end(successOf(await running.run(this, handle)))
    } catch (error) {
      this.#end(failureFrom(error), error)
    }
  }

  /** Aborts the handler's signal after a cancellation. */
  cancel(): void {
    this.#stop('the task was canceled')
  }

  /** Fails the attempt with an error from outside of its promise. */
  fail(error: unknown): void {
    this.#end(failureFrom(error), error)
    this.#abort.abort(error)
  }

  /** Releases the task at no cost at a shutdown. */
  release(): void {
    this.#end({ kind: 'released' })
    this.#stop('the worker is shutting down')
  }

  /** The lease is lost: no outcome is reported. */
  abandon(): void {
    this.#close(null)
    this.#stop('the lease was lost')
  }

  /** Ends the attempt if it has run for too long. */
  checkDeadline(now: number): void {
    const { deadlineAt } = this.lease
    if (deadlineAt === null || now < deadlineAt) return
    this.#end({ kind: 'timeout' })
    this.#stop('the attempt timed out', 'TimeoutError')
  }

  async #handle(): Promise<unknown> {
    const { task } = this.lease
    const schema = this.#handler.payload
    const payload = schema === null ? task.payload : await parsePayload(schema, task.payload)
    return this.#handler.run(viewOf(task, payload) as never, new AttemptContext(this))
  }

  /** The log of the handler. */
  makeLog(): Logger {
    const { logger, logged, time } = this.#host
    const { id, type, attempts } = this.lease.task
    const log = logger.child({ task_id: id, type, attempt: attempts + 1, ...logFields(this.#span) })
    if (!logged) return log
    const keep = (line: string) => {
      if (!this.#over) logged(this, line)
    }
    return keptLog(log, keep, time.now)
  }

  async predecessor(id: string): Promise<Predecessor> {
    const handed = this.lease.predecessors.find((one) => one.id === id)
    if (handed && !handed.omitted) return handed
    const read = handed && (await this.#host.read(this, id))
    if (read) return read
    throw new Error(`this task has not waited for ${JSON.stringify(id)}: give the id of one of its predecessors`)
  }

  /** Invalid progress is ignored and logged once. */
  report(value: unknown): void {
    if (this.#over) return
    const reported = reportedProgress(value)
    if ('progress' in reported) {
      this.#host.progressed(this, reported.progress)
      return
    }
    if (this.#hasIgnored) return
    this.#hasIgnored = true
    const { id, type } = this.lease.task
    this.#host.logger.warn({ task_id: id, type, why: reported.ignored }, 'invalid progress was ignored')
  }

  /** An invalid usage is ignored and logged. */
  use(units: unknown): void {
    const wrong = usageError(units)
    if (!wrong) {
      this.#usage = { ...(units as Uses) }
      return
    }
    const { id, type } = this.lease.task
    this.#host.logger.warn({ task_id: id, type, why: `${wrong.path} ${wrong.message}` }, 'invalid usage was ignored')
  }

  #stop(why: string, name = 'AbortError'): void {
    this.#abort.abort(new DOMException(why, name))
  }

  #end(ended: Outcome, thrown?: unknown): void {
    const isCounted = this.#usage !== undefined && (ended.kind === 'success' || ended.kind === 'failure')
    const outcome: Outcome = isCounted ? { ...ended, usage: this.#usage! } : ended
    if (!this.#close(outcome, thrown)) return
    if (outcome.kind !== 'success') this.#logFailure(outcome, thrown)
    this.#host.ended(this, outcome)
  }

  #logFailure(outcome: Outcome, thrown: unknown): void {
    const { logger } = this.#host
    const { task } = this.lease
    const fields = { task_id: task.id, type: task.type, attempt: task.attempts + 1 }
    if (outcome.kind === 'timeout') logger.warn(fields, 'an attempt timed out')
    if (outcome.kind === 'held')
      logger.info(
        { ...fields, why: outcome.error, ms: outcome.holdMs, ...(outcome.limit ? { limit: outcome.limit } : {}) },
        outcome.limit ? 'a limit is held' : 'a type is held',
      )
    // A canceled attempt is not logged as failed.
    if (outcome.kind !== 'failure' || this.signal.aborted || !logger.isLevelEnabled('warn')) return
    const reason = thrown === undefined ? { why: outcome.error } : { err: errorOf(thrown, outcome.error) }
    logger.warn({ ...fields, ...reason }, 'an attempt failed')
  }

  /** False if the attempt had already ended. */
  #close(outcome: Outcome | null, thrown?: unknown): boolean {
    if (this.#over) return false
    this.#over = true
    if (this.#span) endProcessing(this.#span, outcome, thrown)
    return true
  }
}

/**
 * The second argument of a handler. Its log is made on first use, by the same accessor for all attempts: V8 gives an
 * object with an accessor of its own a hidden class of its own, which keeps all that the accessor refers to until the
 * next full collection.
 */
class AttemptContext implements HandlerContext {
  readonly signal: AbortSignal
  readonly attempt: number
  readonly lease: HandlerLease
  readonly predecessors: readonly Predecessor[]
  readonly progress: HandlerContext['progress']
  readonly predecessor: HandlerContext['predecessor']
  readonly usage: HandlerContext['usage']
  declare readonly log: Logger
  readonly #attempt: Attempt
  static readonly #log = {
    enumerable: true,
    get(this: AttemptContext) {
      return this.#attempt.makeLog()
    },
  }

  constructor(attempt: Attempt) {
    this.#attempt = attempt
    this.signal = attempt.signal
    this.attempt = attempt.lease.task.attempts + 1
    this.lease = attempt.heldLease
    this.predecessors = attempt.lease.predecessors
    this.progress = (value) => attempt.report(value)
    this.predecessor = (id) => attempt.predecessor(id)
    this.usage = (units) => attempt.use(units)
    Object.defineProperty(this, 'log', AttemptContext.#log)
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
  if ('fault' in outcome) return failed(unwritableText('result', outcome.fault))
  const bytes = Buffer.byteLength(outcome.written.text)
  if (bytes > TASK_LIMITS.resultBytesMax) {
    return failed(`the result has ${bytes} bytes, the maximum is ${TASK_LIMITS.resultBytesMax}: store it elsewhere`)
  }
  return { kind: 'success', result: outcome.written }
}
