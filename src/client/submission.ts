import type { OnFailure } from '../task/flow.ts'
import type { Duration } from '../worker/handler.ts'

/** Options of a submission; each has the default of the handler or of XQueue. */
export interface SubmitOptions {
  /** 0–9, higher runs first; default 0. */
  priority?: number
  /** Delay before the start; not together with `runAt`. */
  delay?: Duration
  runAt?: Date
  /** Retries after the first attempt; default 3. */
  maxRetry?: number
  /** Maximum wait for the first start; default 10 min, 0 = no limit. */
  queueTimeout?: Duration
  /** Maximum duration of an attempt; default 5 min, 0 = no limit. */
  processTimeout?: Duration
  tags?: Record<string, string>
  /** Tenant, account or customer; the groups of a type take turns and can have their own limit. */
  group?: string
  /** Units of named limits that the task uses while it runs: `{ gpu: 1 }`; default what its handler declares. */
  uses?: Readonly<Record<string, number>>
  /** Ids of tasks to wait for; with `submitMany` also positions of earlier tasks, from 0. See `flow`. */
  after?: readonly (string | number)[]
  /** If one of these ends without success: cancel the task, run it anyway, or wait for a retry. */
  onFailure?: OnFailure
  /** Batch to count, list, cancel and retry tasks together. */
  batch?: string
  /** Repeated submissions with the same key and task create one task. */
  idempotencyKey?: string
}

/** JSON omits undefined fields. */
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
    uses: task.uses,
    after: task.after,
    on_failure: task.onFailure,
    batch: task.batch,
  }
}
