import type { StandardSchemaV1 } from '@standard-schema/spec'
import type { Predecessor } from '../task/flow.ts'
import type { FinalStatus } from '../task/status.ts'
import type { Progress } from '../task/task.ts'
import type { TaskView } from '../task/task-view.ts'

/** Seconds, or a string with units: `30`, `"30s"`, `"1h30m"`. */
export type Duration = number | string

/** A log of the kind of Pino's: `log.info({ bytes }, 'read')`, or `log.info('read')`. */
export interface Log {
  trace: LogLine
  debug: LogLine
  info: LogLine
  warn: LogLine
  error: LogLine
  fatal: LogLine
  /** A log whose lines have these fields too. */
  child(fields: Record<string, unknown>): Log
}

export interface LogLine {
  (fields: object, message?: string): void
  (message: string): void
}

/** The right of an attempt to run its task. */
export interface HandlerLease {
  /**
   * Grows with each hand-out of the task. Give it to the systems that you write to, and let them refuse a number that
   * is lower than one that they have seen: `UPDATE … SET fence = $1 WHERE id = $2 AND fence <= $1`.
   */
  readonly fence: number
  /**
   * Whether this attempt still holds the lease by the worker's clock; false as soon as another worker may run the task,
   * as after the process stood still for longer than the lease. Reads memory, so it costs nothing.
   */
  isHeld(): boolean
}

/** The second argument of a handler. */
export interface HandlerContext {
  /** Aborts on time-out, cancellation, shutdown and a lost lease. */
  signal: AbortSignal
  /** 1 for the first attempt. */
  attempt: number
  /** See docs/handlers.md#frozen-workers. */
  lease: HandlerLease
  /** Reports progress: 0–100, or any JSON object. The latest value is sent with the next round trip. */
  progress: (value: Progress) => void
  /** The tasks in `after`, in that order, with their statuses and results. */
  predecessors: readonly Predecessor[]
  /**
   * One of them whole. Where all results together are larger than 1 MiB, those that do not fit are `omitted` above, and
   * are read here: `const { result } = await predecessor(id)`.
   */
  predecessor: (id: string) => Promise<Predecessor>
  /**
   * Reports the units of named limits that the attempt has used in fact, `{ 'openai-tokens': 900 }`: it corrects what
   * their rates have counted at the start. The latest value counts.
   */
  usage: (units: Readonly<Record<string, number>>) => void
  /** Logs with the task's id, type and attempt. */
  log: Log
}

/**
 * The handler of a type. `run` receives `Payload`, and submissions have `Input`. They differ if the validator adds
 * defaults or converts values.
 */
export interface Handler<Payload = never, Result = unknown, Input = Payload> {
  /** Running tasks of this type at once, over all processes and machines; default no limit. */
  concurrency?: number | null
  /** The same for each group (`group` of a task) of the type; tasks without a group are not limited by it. */
  groupConcurrency?: number | null
  /**
   * What groups of the type share fairly while they take turns: `tasks` (default) gives each as many starts, `time` as
   * much running time, so that a group with slow tasks gets no more of the workers than others. What an operator sets
   * wins.
   */
  groupTurns?: 'tasks' | 'time'
  /** At most `max` starts in any window of `per`, over all processes: `{ max: 100, per: '1m' }`; default no limit. */
  rate?: { max: number; per: Duration } | null
  /**
   * Units of named limits that each task uses while it runs, unless the task sets them: `{ gpu: 1 }`, or a function of
   * the payload, which the server calls at the submission, so that it needs this handler. At most 16 limits.
   */
  uses?: Readonly<Record<string, number>> | ((payload: Input) => Readonly<Record<string, number>>)
  /**
   * Declares named limits, which any handler can use: `{ openai: { max: 10, rate: { max: 90_000, per: '1m' } } }`. What
   * an operator sets wins. `tenant/*` declares one for each key, such as `tenant/acme`.
   */
  limits?: Readonly<Record<string, { max?: number | null; rate?: { max: number; per: Duration } | null }>>
  /** Maximum duration of an attempt, unless the task sets it; default 5 min, 0 = no limit. */
  processTimeout?: Duration
  /** Maximum wait for the first start, unless the task sets it; default 10 min, 0 = no limit. */
  queueTimeout?: Duration
  /** Retries after the first attempt, unless the task sets them; default 3. */
  maxRetry?: number
  /** Back-off; default 1 s doubling up to 5 min, with a random fifth. */
  retry?: { base?: Duration; factor?: number; cap?: Duration; jitter?: number }
  /**
   * How long tasks are kept after they have ended in a status: `{ success: '1h', failed: '30d' }`; 0 = not at all.
   * What an operator sets wins. Default: as the server keeps those of any type (`--retention-age`).
   */
  retention?: { [Status in FinalStatus]?: Duration }
  /**
   * Runs the handler in its own thread, for code that blocks, leaks or crashes. The thread is terminated if the handler
   * does not stop within a second after its signal. It loads the handlers file again, and payload and result are
   * copied. Default false.
   */
  isolate?: boolean
  /** Any Standard Schema validator: validates submissions, and `run` receives its output. */
  payload?: StandardSchemaV1<Input, Payload>
  run: (task: TaskWith<Payload>, context: HandlerContext) => Promise<Result> | Result
}

/** The task of a handler. Without a validator, declare the payload type: `run: (task: TaskWith<Order>) => …`. */
export type TaskWith<Payload> = TaskView<Payload>

// biome-ignore lint/suspicious/noExplicitAny: each handler has its own payload type, a map of them no common one
export type Handlers = Record<string, Handler<any, any, any>>

/** The payload of submissions for a type of `H`, and the result of its handler. */
export type PayloadOf<H extends Handlers, Type extends keyof H> =
  H[Type] extends Handler<infer Payload, infer _Result, infer Input> ? (unknown extends Input ? Payload : Input) : never
export type ResultOf<H extends Handlers, Type extends keyof H> = Awaited<ReturnType<H[Type]['run']>>

type Of<Types, Type> = Types[Type & keyof Types]

/**
 * Defines the handlers of a worker and keeps their types: `run` receives the output of the payload's validator, and the
 * client takes its input and returns the result. The shape is repeated three times, because TypeScript infers one type
 * parameter from each.
 */
export function defineHandlers<
  Payloads extends Record<string, unknown>,
  Results extends Record<keyof Payloads, unknown>,
  Inputs extends Record<keyof Payloads, unknown>,
>(
  handlers: { [Type in keyof Payloads]: Handler<Payloads[Type], Results[Type], Inputs[Type]> } & {
    [Type in keyof Results]: Handler<Of<Payloads, Type>, Results[Type], Of<Inputs, Type>>
  } & { [Type in keyof Inputs]: Handler<Of<Payloads, Type>, Of<Results, Type>, Inputs[Type]> },
): { [Type in keyof Payloads]: Handler<Payloads[Type], Results[Type], Inputs[Type]> } {
  return handlers
}
