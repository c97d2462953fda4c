import type { StandardSchemaV1 } from '@standard-schema/spec'
import type { Logger } from 'pino'
import type { Predecessor } from '../task/flow.ts'
import type { FinalStatus } from '../task/status.ts'
import type { Progress, Task } from '../task/task.ts'

/** Seconds, or a string with units: `30`, `"30s"`, `"1h30m"`. */
export type Duration = number | string

/** What a handler gets beside its task. */
export interface HandlerContext {
  /** Aborts when the attempt runs out of time, is canceled, or the worker shuts down. */
  signal: AbortSignal
  /** 1 for the first attempt. */
  attempt: number
  /** Tells how far the task is: 0–100, or any JSON object. Sent with the next trip, the last value wins. */
  progress: (value: Progress) => void
  /** The tasks that this one has waited for, in the order of its `after`, with what they came to. */
  predecessors: readonly Predecessor[]
  /**
   * One of them whole. Where all results together are larger than 1 MiB, those that do not fit are `omitted` above, and
   * are read here: `const { result } = await predecessor(id)`.
   */
  predecessor: (id: string) => Promise<Predecessor>
  /** Logs with the task's id, type and attempt. */
  log: Logger
}

/**
 * How the tasks of one type are run. `Payload` is what `run` gets, `Input` what is submitted: they differ where the
 * validator fills defaults or converts.
 */
export interface Handler<Payload = never, Result = unknown, Input = Payload> {
  /** Tasks of this type at once, over all processes and machines; default no limit. */
  concurrency?: number | null
  /** The same for each group (`group` of a task) of the type; tasks without a group are not limited by it. */
  groupConcurrency?: number | null
  /** At most `max` starts in any window of `per`, over all processes: `{ max: 100, per: '1m' }`; default no limit. */
  rate?: { max: number; per: Duration } | null
  /** How long an attempt may run, unless the task says so; default 5 min, 0 = no limit. */
  processTimeout?: Duration
  /** How long a task may wait for its first start, unless it says so; default 10 min, 0 = no limit. */
  queueTimeout?: Duration
  /** Retries after the first attempt, unless the task says so; default 3. */
  maxRetry?: number
  /** Back-off; default 1 s doubling up to 5 min, of which a fifth is drawn at random. */
  retry?: { base?: Duration; factor?: number; cap?: Duration; jitter?: number }
  /**
   * How long tasks are kept after they have ended in a status: `{ success: '1h', failed: '30d' }`; 0 = not at all.
   * What an operator sets wins. Default: as the server keeps those of any type (`--retention-age`).
   */
  retention?: { [Status in FinalStatus]?: Duration }
  /**
   * Runs it in a thread of its own, for code that blocks, leaks or crashes: one that does not heed its signal within a
   * second is terminated. The thread loads the handlers' file again, and payload and result are copied. Default false.
   */
  isolate?: boolean
  /** Any Standard Schema validator: checked at submission, and its output is what `run` gets. */
  payload?: StandardSchemaV1<Input, Payload>
  run: (task: TaskWith<Payload>, context: HandlerContext) => Promise<Result> | Result
}

/** A task as a handler gets it. Without a validator, say here what it gets: `run: (task: TaskWith<Order>) => …`. */
export type TaskWith<Payload> = Omit<Task, 'payload'> & { payload: Payload }

// biome-ignore lint/suspicious/noExplicitAny: each handler has its own payload type, a map of them no common one
export type Handlers = Record<string, Handler<any, any, any>>

/** What is submitted for a type of `H`, and what its handler answers. */
export type PayloadOf<H extends Handlers, Type extends keyof H> =
  H[Type] extends Handler<infer Payload, infer _Result, infer Input> ? (unknown extends Input ? Payload : Input) : never
export type ResultOf<H extends Handlers, Type extends keyof H> = Awaited<ReturnType<H[Type]['run']>>

type Of<Types, Type> = Types[Type & keyof Types]

/**
 * Names the handlers of a worker, and keeps their types: `run` gets the output of the payload's validator, and the
 * client takes its input and gives the result. The same shape stands there three times, because TypeScript infers one
 * type parameter from each.
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
