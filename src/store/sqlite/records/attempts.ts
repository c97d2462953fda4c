import {
  ATTEMPTS_BYTES_MAX,
  ATTEMPTS_MAX,
  attemptOf,
  attemptText,
  isRepeated,
  type KeptAttempts,
  type KeptOutcome,
  type TaskAttempt,
} from '../../../task/attempt.ts'
import type { Database } from '../database/database.ts'
import type { TaskState } from './rows.ts'

/** The attempts that did not end their tasks; a task without any has no row. */
export class Attempts {
  readonly #database: Database

  constructor(database: Database) {
    this.#database = database
  }

  /** Keeps the attempt of a lease that ended without ending its task. */
  add({ seq, ...state }: TaskState, outcome: KeptOutcome, endedAt: number, error: string | null): void {
    const { deliveries: delivery, attempts, workerId, startedAt } = state
    this.#write(seq, { number: attempts + 1, delivery, outcome, workerId, startedAt: startedAt!, endedAt, error })
  }

  /** Keeps the attempt that ended a task which is to run again. */
  addLast({ seq, deliveries: delivery, attempts, status, workerId, startedAt, error }: TaskState): void {
    // A task that was canceled while it waited has no further attempt.
    if (startedAt === null || this.#database.get('lastAttempt', seq)?.delivery === delivery) return
    const endedAt = this.#database.get('finishedBySeq', seq)!.completed_at as number
    const outcome = status as TaskAttempt['outcome']
    this.#write(seq, { number: Math.max(attempts, 1), delivery, outcome, workerId, startedAt, endedAt, error })
  }

  of(ids: readonly string[]): KeptAttempts[] {
    const kept = new Map(ids.map((id): [string, KeptAttempts] => [id, { attempts: [], leftOut: 0 }]))
    for (const { id, n, body } of this.#database.all('attemptsOf', JSON.stringify(ids))) {
      const its = kept.get(id as string)!
      if (its.attempts.length === 0) its.leftOut = (n as number) - 1
      its.attempts.push(attemptOf(body as string))
    }
    return ids.map((id) => kept.get(id)!)
  }

  /** Removes those of removed tasks. */
  drop(seqs: readonly number[]): void {
    if (seqs.length > 0) this.#database.run('dropAttempts', JSON.stringify(seqs))
  }

  #write(seq: number, attempt: TaskAttempt): void {
    const last = this.#database.get('lastAttempt', seq) as { n: number; total: number; bytes: number } | undefined
    const { n = 0, total = 0, bytes = 0 } = last ?? {}
    const { delivery, outcome } = attempt
    const replaces = last !== undefined && isRepeated(outcome, (last as { outcome?: unknown }).outcome)
    const body = attemptText(attempt)
    const place = replaces ? n : n + 1
    const upTo = total - (replaces ? bytes : 0) + Buffer.byteLength(body)
    this.#database.run('putAttempt', seq, place, delivery, outcome, upTo, body)
    if (place > ATTEMPTS_MAX || upTo > ATTEMPTS_BYTES_MAX) {
      this.#database.run('dropOldAttempts', seq, place - ATTEMPTS_MAX, upTo - ATTEMPTS_BYTES_MAX)
    }
  }
}
