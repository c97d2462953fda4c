import type { Logger } from 'pino'
import type { Outcome } from '../task/outcome.ts'
import type { RegisteredHandler } from './handlers.ts'
import type { Runtime } from './runtime.ts'
import type { TaskSource } from './task-source.ts'

export interface WorkerOptions {
  queue: TaskSource
  handlers: ReadonlyMap<string, RegisteredHandler>
  logger: Logger
  /** Tasks that run at once in this worker; default 10. */
  concurrency?: number
  /** Tasks claimed ahead while handlers end at once; default 128, 0 for none. See `Prefetch`. */
  claimAhead?: number
  /** Duration of a lease without renewal; default 30 s. */
  leaseMs?: number
  /** Time for running tasks to finish at `stop` before they are released; default 30 s. */
  shutdownMs?: number
  /** Whether lines that handlers log are kept with their tasks; default true. */
  keepsLogs?: boolean
  /** Called for each ended attempt, for metrics. */
  onAttempt?: (attempt: { type: string; outcome: Outcome['kind']; waitMs: number; runMs: number }) => void
  /** Name in the list of workers; default host, process and a random part. */
  id?: string
  /** Environment; default this process. */
  runtime?: Runtime
}
