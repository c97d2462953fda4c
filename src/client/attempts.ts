import type { AttemptOutcome } from '../task/attempt.ts'
import { answerOf } from './answer.ts'

/** One run of a task's handler. */
export interface TaskAttempt {
  /** From 1 after the submission and after an explicit retry; a run that does not count has the number of the next. */
  number: number
  /** The hand-out that began it; no other attempt of the task has the same. */
  delivery: number
  /** `lost` with its worker, `released` by a worker that stopped, `held` by a hold of the type. */
  outcome: AttemptOutcome
  workerId: string | null
  startedAt: Date
  /** Null while it runs. */
  endedAt: Date | null
  /** With its stack and the chain of its causes. */
  error: string | null
}

export interface TaskAttempts {
  /** Oldest first. */
  attempts: TaskAttempt[]
  /** Number of older attempts that are no longer kept. */
  leftOut: number
}

export function attemptsOf({ attempts, left_out }: { attempts: object[]; left_out: number }): TaskAttempts {
  return { attempts: attempts.map((one) => answerOf(one, ['startedAt', 'endedAt'])), leftOut: left_out }
}
