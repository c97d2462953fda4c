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

/** A limit because of which a task does not start. */
export interface LimitInTheWay {
  /** `type:TYPE`, `group:TYPE/GROUP`, or a named limit. */
  name: string
  reason: 'paused' | 'held' | 'limit_reached' | 'rate_limited'
  /** Units that the task needs. */
  needs: number
  max: number | null
  inUse: number
  /** Time at which it ends, or may end. */
  until: Date | null
  /** For `limit_reached`. */
  holders: Holder[]
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
  /** If it is ready: the limits in its way, of its type, its group and the named ones. */
  limits: LimitInTheWay[]
  /** Number of tasks that run before it. */
  ahead: number
  /** Ids of the tasks that it still waits for. */
  waitsFor: string[]
  /** Ids of the first 100 tasks that name it in `after` and that its end has not released, oldest first. */
  successors: string[]
  hasMoreSuccessors: boolean
  /** Time of the next possible change. */
  until: Date | null
}

export function explanationOf(json: object): Explanation {
  const { holders, limits, ...explanation } = answerOf<Explanation>(json, ['until'])
  const inTheWay = limits.map((limit) => {
    const { holders: by, ...rest } = answerOf<LimitInTheWay>(limit, ['until'])
    return { ...rest, holders: by.map(holderOf) }
  })
  return { ...explanation, holders: holders.map(holderOf), limits: inTheWay }
}

export function holderOf(json: object): Holder {
  return answerOf(json, ['since', 'leaseExpiresAt'])
}
