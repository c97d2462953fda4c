import { FINAL_STATUSES, isFinal } from './status.ts'
import type { Task } from './task.ts'
import { isoTime } from './task-json.ts'

/**
 * How an attempt ended that did not end its task: `lost` with its worker, `released` by a worker that stops, `held` by
 * a hold of the type. Only the first two count as attempts.
 */
export type KeptOutcome = 'failed' | 'timeout' | 'lost' | 'released' | 'held'

export const ATTEMPT_OUTCOMES = ['running', ...FINAL_STATUSES, 'lost', 'released', 'held'] as const
export type AttemptOutcome = (typeof ATTEMPT_OUTCOMES)[number]

/** One run of a task's handler. Times are milliseconds since the epoch. */
export interface TaskAttempt {
  /** From 1 after the submission and after an explicit retry; a run that does not count has the number of the next. */
  number: number
  /** The hand-out that began it; no other attempt of the task has the same. */
  delivery: number
  outcome: AttemptOutcome
  workerId: string | null
  startedAt: number
  endedAt: number | null
  /** With the stack and the chain of its causes. */
  error: string | null
}

/** The attempts of a task that did not end it, oldest first, and the number of older ones that are not kept. */
export interface KeptAttempts {
  attempts: TaskAttempt[]
  leftOut: number
}

/** Whether an attempt replaces the one before it: a type that is held often would push out its failures otherwise. */
export function isRepeated(outcome: AttemptOutcome, before: unknown): boolean {
  return (outcome === 'held' || outcome === 'released') && outcome === before
}

/** Bounds of `KeptAttempts`: the oldest go first, and the last one always stays. */
export const ATTEMPTS_MAX = 20
export const ATTEMPTS_BYTES_MAX = 64 * 1024

/** All attempts of a task: those that are kept, and the one that the task itself describes. */
export function allAttempts(task: Task, { attempts, leftOut }: KeptAttempts): KeptAttempts {
  const last = lastAttempt(task)
  const isKept = last === null || attempts.some(({ delivery }) => delivery === last.delivery)
  return { attempts: isKept ? attempts : [...attempts, last], leftOut }
}

/** False if no attempt of a task can have been kept: true of few tasks. */
export function mayHaveAttempts({ status, deliveries }: Task): boolean {
  return deliveries > 1 || (deliveries === 1 && status !== 'success')
}

/** The attempt that runs, or that ended the task. */
function lastAttempt(task: Task): TaskAttempt | null {
  const { status, attempts, deliveries, workerId, startedAt, completedAt, error } = task
  if (startedAt === null || status === 'pending') return null
  const run = { delivery: deliveries, workerId, startedAt }
  // While it runs, the error is that of the attempt before.
  if (!isFinal(status)) return { ...run, number: attempts + 1, outcome: 'running', endedAt: null, error: null }
  return { ...run, number: Math.max(attempts, 1), outcome: status, endedAt: completedAt, error }
}

/** The stored form: one line of JSON. */
export function attemptText(attempt: TaskAttempt): string {
  const { delivery, number, outcome, startedAt, endedAt, workerId, error } = attempt
  return JSON.stringify([delivery, number, outcome, startedAt, endedAt, workerId, error])
}

export function attemptOf(text: string): TaskAttempt {
  const [delivery, number, outcome, startedAt, endedAt, workerId, error] = JSON.parse(text)
  return { number, delivery, outcome, workerId, startedAt, endedAt, error }
}

/** An attempt in answers of the API. */
export interface AttemptJson {
  number: number
  delivery: number
  outcome: AttemptOutcome
  worker_id: string | null
  started_at: string
  ended_at: string | null
  error: string | null
}

export function attemptJson(attempt: TaskAttempt): AttemptJson {
  const { number, delivery, outcome, workerId, startedAt, endedAt, error } = attempt
  const times = { started_at: isoTime(startedAt)!, ended_at: isoTime(endedAt) }
  return { number, delivery, outcome, worker_id: workerId, ...times, error }
}

export function attemptOfJson({ worker_id, started_at, ended_at, ...same }: AttemptJson): TaskAttempt {
  const endedAt = ended_at === null ? null : Date.parse(ended_at)
  return { ...same, workerId: worker_id, startedAt: Date.parse(started_at), endedAt }
}
