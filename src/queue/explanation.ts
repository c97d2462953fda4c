import type { Facts, Holder, Store, TaskFacts } from '../store/store.ts'
import { isFinal } from '../task/status.ts'
import type { Task } from '../task/task.ts'
import { isOfGroup, nameOfGroupLimit } from '../task/uses.ts'

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
  /** If it is ready: the limits in its way, of its type, its group and the named ones. */
  limits: LimitInTheWay[]
  /** Tasks of its type that run before it, at present (counted up to 10,000). */
  ahead: number
  /** The tasks that it still waits for. */
  waitsFor: readonly string[]
  /**
   * The first of the tasks that name it in `after` and that its end has not released, oldest first: those that
   * wait for it, and those that were canceled meanwhile.
   */
  successors: readonly string[]
  hasMoreSuccessors: boolean
  /**
   * The time at which the reason ends, if it has an end: run_at, the end of a hold, the holder's lease expiry, the
   * rate's next start.
   */
  until: number | null
}

/** A limit that lets a task not start. */
export interface LimitInTheWay {
  /** `type:TYPE`, `group:TYPE/GROUP`, or a named limit. */
  name: string
  reason: 'paused' | 'held' | 'limit_reached' | 'rate_limited'
  /** The units that the task needs. */
  needs: number
  max: number | null
  inUse: number
  /** The time at which it ends, or may end: that of the hold or the rate, or the first expiry of a holder's lease. */
  until: number | null
  /** For `limit_reached`. */
  holders: Holder[]
}

/** The number of successors that an explanation has by default. */
export const SUCCESSORS_MAX = 100

export interface ExplainOptions {
  /** Maximum number of successors; default `SUCCESSORS_MAX`. */
  successorsMax?: number
}

/** Returns the first reason that applies, or null when there is no such task. */
export async function explain(
  store: Store,
  id: string,
  { successorsMax = SUCCESSORS_MAX }: ExplainOptions = {},
): Promise<Explanation | null> {
  // One more, so that it is known whether there are more.
  const facts = await store.inspect({ task: id, holders: true, successors: successorsMax + 1 })
  const { now, task: found, types, workers } = facts
  if (!found) return null
  const { task, ahead, waitsFor } = found
  const successors = found.successors.slice(0, successorsMax)
  const hasMoreSuccessors = found.successors.length > successors.length
  const type = types.find((one) => one.type === task.type)
  const { maxConcurrency = null, holders = [] } = type ?? {}
  const isReady = task.status === 'pending' && waitsFor.length === 0 && task.runAt <= now
  const limits = isReady && type ? limitsInTheWay(facts, type, found) : []
  const because = (reason: Explanation['reason'], until: number | null = null, by = holders): Explanation => {
    const flow = { waitsFor, successors, hasMoreSuccessors }
    return { reason, task, holders: by, maxConcurrency, limits, ahead, ...flow, until }
  }
  if (isFinal(task.status)) return because('finished')
  if (task.status === 'processing') {
    return because('running', holders.find(({ taskId }) => taskId === task.id)?.expiresAt ?? null)
  }
  if (waitsFor.length > 0) return because('waits_for_tasks')
  if (task.runAt > now) return because('delayed', task.runAt)
  // A pause and a hold need no worker to be the reason.
  const closed = limits.find(({ reason }) => reason === 'paused' || reason === 'held')
  if (closed) return because(closed.reason, closed.until)
  if (!workers.some((worker) => worker.types.includes(task.type))) return because('no_worker')
  const first = limits.find(({ reason }) => reason === 'limit_reached') ?? limits[0]
  if (first) {
    const isGroup = isOfGroup(first.name)
    const reason = isGroup ? 'group_limit_reached' : first.reason
    return because(reason, first.until, first.reason === 'limit_reached' ? first.holders : holders)
  }
  return because(ahead > 0 ? 'behind' : 'ready')
}

/** The limit of the type, that of the group and the named ones, as far as the task cannot start because of them. */
function limitsInTheWay({ now, limits }: Facts, type: Facts['types'][number], found: TaskFacts): LimitInTheWay[] {
  const { task, holdersOfGroup, groupLimit } = found
  const ofType: Rules = {
    ...type,
    name: `type:${type.type}`,
    max: type.maxConcurrency,
    // The list of holders is bounded, and the limit is not.
    inUse: type.counts.processing,
  }
  const ofGroup: Rules = {
    name: nameOfGroupLimit(type.type, task.group ?? ''),
    max: task.group === null ? null : groupLimit,
    inUse: holdersOfGroup.length,
    holders: holdersOfGroup,
    paused: false,
    heldUntil: null,
    nextStartAt: null,
    rate: null,
  }
  return [
    ...inTheWay(ofType, 1, now),
    ...inTheWay(ofGroup, 1, now),
    ...limits.flatMap((limit) => inTheWay({ ...limit, inUse: limit.inUse ?? 0 }, task.uses[limit.name] ?? 1, now)),
  ]
}

interface Rules {
  name: string
  max: number | null
  inUse: number
  holders: Holder[]
  paused: boolean
  heldUntil: number | null
  nextStartAt: number | null
  rate: { max: number } | null
}

function inTheWay(rules: Rules, needs: number, now: number): LimitInTheWay[] {
  const { name, max, inUse, holders, paused, heldUntil, nextStartAt, rate } = rules
  const because = (reason: LimitInTheWay['reason'], until: number | null = null, by: Holder[] = []) => [
    { name, reason, needs, max, inUse, until, holders: by },
  ]
  if (paused) return because('paused')
  if (heldUntil !== null && heldUntil > now) return because('held', heldUntil)
  if (max !== null && inUse + needs > max) return because('limit_reached', firstToExpire(holders), holders)
  // Units above the rate are never allowed, so there is no time.
  const isNever = rate !== null && needs > rate.max
  return nextStartAt === null && !isNever ? [] : because('rate_limited', nextStartAt)
}

function firstToExpire(holders: readonly Holder[]): number | null {
  return holders.length === 0 ? null : Math.min(...holders.map(({ expiresAt }) => expiresAt))
}
