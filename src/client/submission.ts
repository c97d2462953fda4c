import type { OnFailure } from '../task/flow.ts'
import type { Duration } from '../worker/handler.ts'

/** What may be said of a task beside its type and payload; each has the default of its handler or of XQueue. */
export interface SubmitOptions {
  /** 0–9, higher runs first; default 0. */
  priority?: number
  /** How long it may not start yet; not together with `runAt`. */
  delay?: Duration
  runAt?: Date
  /** Retries after the first attempt; default 3. */
  maxRetry?: number
  /** How long it may wait for its first start; default 10 min, 0 = no limit. */
  queueTimeout?: Duration
  /** How long an attempt may run; default 5 min, 0 = no limit. */
  processTimeout?: Duration
  tags?: Record<string, string>
  /** A tenant, account or customer: the groups of a type take turns, and may have a limit of their own. */
  group?: string
  /** Tasks to wait for, by their ids; with `submitMany` also by the places of earlier ones, from 0. See `flow`. */
  after?: readonly (string | number)[]
  /** When one of those ends without success: be canceled too, run all the same, or wait for its retry. */
  onFailure?: OnFailure
  /** A name that tasks are counted, listed, canceled and retried under together, see `batch`. */
  batch?: string
  /** The same key with the same task is submitted once, however often it is called. */
  idempotencyKey?: string
}

/** What is undefined is left out by JSON itself. */
export function inputOf(task: SubmitOptions & { type?: string; payload?: unknown }) {
  return {
    type: task.type,
    payload: task.payload,
    priority: task.priority,
    delay: task.delay,
    run_at: task.runAt?.toISOString(),
    max_retry: task.maxRetry,
    queue_timeout: task.queueTimeout,
    process_timeout: task.processTimeout,
    tags: task.tags,
    idempotency_key: task.idempotencyKey,
    group: task.group,
    after: task.after,
    on_failure: task.onFailure,
    batch: task.batch,
  }
}
