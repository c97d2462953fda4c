import type { Status } from '../task/status.ts'
import { answerOf } from './answer.ts'

/** A running task that holds a permit of its type. */
export interface Holder {
  taskId: string
  workerId: string
  since: Date
  /** Expiry of the permit unless it is renewed. */
  leaseExpiresAt: Date
  group: string | null
}

/** The reason why a task is not running. */
export interface Explanation {
  id: string
  type: string
  group: string | null
  status: Status
  reason:
    | 'ready'
    | 'delayed'
    | 'limit_reached'
    | 'group_limit_reached'
    | 'rate_limited'
    | 'paused'
    | 'held'
    | 'no_worker'
    | 'behind'
    | 'running'
    | 'finished'
    | 'waits_for_tasks'
  maxConcurrency: number | null
  holders: Holder[]
  /** Number of tasks that run before it. */
  ahead: number
  /** Ids of the tasks that it still waits for. */
  waitsFor: string[]
  /** Time of the next possible change. */
  until: Date | null
}

export function explanationOf(json: object): Explanation {
  const { holders, ...explanation } = answerOf<Explanation>(json, ['until'])
  return { ...explanation, holders: holders.map(holderOf) }
}

export function holderOf(json: object): Holder {
  return answerOf(json, ['since', 'leaseExpiresAt'])
}
