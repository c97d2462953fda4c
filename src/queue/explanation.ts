import type { Holder, Store } from '../store/store.ts'
import { isFinal } from '../task/status.ts'
import type { Task } from '../task/task.ts'

/** The reason why a task is not running, in the order in which the reasons are checked. */
export interface Explanation {
  reason:
    | 'finished'
    | 'running'
    | 'waits_for_tasks'
    | 'delayed'
    | 'paused'
    | 'held'
    | 'no_worker'
    | 'limit_reached'
    | 'group_limit_reached'
    | 'rate_limited'
    | 'behind'
    | 'ready'
  task: Task
  /** The holders of the type's permits; for `group_limit_reached`, those of the group. */
  holders: Holder[]
  maxConcurrency: number | null
  /** Tasks of its type that run before it, at present (counted up to 10,000). */
  ahead: number
  /** The tasks that it still waits for. */
  waitsFor: readonly string[]
  /**
   * The time at which the reason ends, if it has an end: run_at, the end of a hold, the holder's lease expiry, the
   * rate's next start.
   */
  until: number | null
}

/** Returns the first reason that applies, or null when there is no such task. */
export async function explain(store: Store, id: string): Promise<Explanation | null> {
  const { now, task: found, types, workers } = await store.inspect({ task: id, holders: true })
  if (!found) return null
  const { task, ahead, waitsFor, holdersOfGroup } = found
  const facts = types.find(({ type }) => type === task.type)
  const { maxConcurrency = null, groupConcurrency = null, holders = [], nextStartAt = null } = facts ?? {}
  const because = (reason: Explanation['reason'], until: number | null = null, by = holders): Explanation => {
    return { reason, task, holders: by, maxConcurrency, ahead, waitsFor, until }
  }
  if (isFinal(task.status)) return because('finished')
  if (task.status === 'processing') {
    return because('running', holders.find(({ taskId }) => taskId === task.id)?.expiresAt ?? null)
  }
  if (waitsFor.length > 0) return because('waits_for_tasks')
  if (task.runAt > now) return because('delayed', task.runAt)
  if (facts?.paused) return because('paused')
  if (facts && facts.heldUntil !== null) return because('held', facts.heldUntil)
  if (!workers.some((worker) => worker.types.includes(task.type))) return because('no_worker')
  // The list of holders is bounded, and the limit is not.
  if (isReached(maxConcurrency, facts?.counts.processing ?? 0)) return because('limit_reached', firstToExpire(holders))
  if (task.group !== null && isReached(groupConcurrency, holdersOfGroup.length)) {
    return because('group_limit_reached', firstToExpire(holdersOfGroup), holdersOfGroup)
  }
  if (nextStartAt !== null) return because('rate_limited', nextStartAt)
  return because(ahead > 0 ? 'behind' : 'ready')
}

function isReached(limit: number | null, held: number): boolean {
  return limit !== null && held >= limit
}

function firstToExpire(holders: readonly Holder[]): number | null {
  return holders.length === 0 ? null : Math.min(...holders.map(({ expiresAt }) => expiresAt))
}
