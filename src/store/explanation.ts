import { isFinal } from '../task/status.ts'
import type { Task } from '../task/task.ts'
import type { Explanation, Holder } from './store.ts'

/** An engine's findings about a task that needs an explanation. */
export interface Findings {
  task: Task
  now: number
  paused: boolean
  /** Whether a live worker runs its type. */
  hasWorker: boolean
  maxConcurrency: number | null
  groupConcurrency: number | null
  /** Holders of the type's permits, and of the task's group if it has one. */
  holders: Holder[]
  holdersOfGroup: Holder[]
  /** The time at which the type's rate allows the next start; null: now. */
  nextStartAt: number | null
  ahead: number
  /** Tasks that it still waits for. */
  waitsFor: readonly string[]
}

/** Returns the first reason that applies, in the order that the port specifies. */
export function explain(findings: Findings): Explanation {
  const { task, now, paused, hasWorker, maxConcurrency, groupConcurrency, holders, holdersOfGroup } = findings
  const { nextStartAt, ahead, waitsFor } = findings
  const because = (reason: Explanation['reason'], until: number | null = null, by = holders): Explanation => ({
    reason,
    task,
    holders: by,
    maxConcurrency,
    ahead,
    waitsFor,
    until,
  })
  if (isFinal(task.status)) return because('finished')
  if (task.status === 'processing') {
    return because('running', holders.find(({ taskId }) => taskId === task.id)?.expiresAt ?? null)
  }
  if (waitsFor.length > 0) return because('waits_for_tasks')
  if (task.runAt > now) return because('delayed', task.runAt)
  if (paused) return because('paused')
  if (!hasWorker) return because('no_worker')
  if (isReached(maxConcurrency, holders)) return because('limit_reached', firstToExpire(holders))
  if (task.group !== null && isReached(groupConcurrency, holdersOfGroup)) {
    return because('group_limit_reached', firstToExpire(holdersOfGroup), holdersOfGroup)
  }
  if (nextStartAt !== null) return because('rate_limited', nextStartAt)
  return because(ahead > 0 ? 'behind' : 'ready')
}

function isReached(limit: number | null, holders: readonly Holder[]): boolean {
  return limit !== null && holders.length >= limit
}

function firstToExpire(holders: readonly Holder[]): number {
  return Math.min(...holders.map(({ expiresAt }) => expiresAt))
}
