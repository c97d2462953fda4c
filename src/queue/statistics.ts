import type {
  Facts,
  GroupTurns,
  Holder,
  Percentiles,
  Rate,
  Store,
  StreamInfo,
  TypeFacts,
  TypeSettings,
} from '../store/store.ts'
import { noCounts, publicStatus, STORED_STATUSES, type Status, WAITING_STATUSES } from '../task/status.ts'

/** Statistics of tasks and types, from the facts of any store. */

export interface Stats {
  /** Kept tasks by status; `pending` includes the delayed ones, and those that wait for others. */
  counts: Record<Status, number>
  delayed: number
  dependent: number
  /** Running tasks and those that could start now, if there were workers; null unless requested. */
  runnable: number | null
  /** Tasks finished per second over the last minute. */
  throughput: number
  concurrencyLimits: Record<string, number>
  stream: StreamInfo
}

export interface TypeInfo extends TypeSettings {
  type: string
  /** Includes waiting, delayed and dependent tasks. */
  pending: number
  delayed: number
  /** Tasks that wait for other tasks. */
  dependent: number
  processing: number
  maxConcurrency: number | null
  groupConcurrency: number | null
  groupTurns: GroupTurns
  rate: Rate | null
  paused: boolean
  /** No task starts before this time; null: it is not held. */
  heldUntil: number | null
  declared: boolean
  /** Running tasks and those that could start now, if there were workers; null unless requested. */
  runnable: number | null
  /** Live workers that run it. */
  workers: number
  /** Tasks finished per second over the last minute. */
  throughput: number
  waitMs: Percentiles | null
  runMs: Percentiles | null
  /** Live leases, oldest first, if requested. */
  holders: Holder[]
}

/** All known types and those with kept tasks, or those of `names` that exist. */
export async function typesOf(
  store: Store,
  { names, holders = false, demand = false }: { names?: readonly string[]; holders?: boolean; demand?: boolean } = {},
): Promise<TypeInfo[]> {
  if (names?.length === 0) return []
  const { types, workers } = await store.inspect({ ...(names && { types: names }), settings: true, holders, demand })
  const served = new Map<string, number>()
  for (const type of workers.flatMap((worker) => [...new Set(worker.types)])) {
    served.set(type, (served.get(type) ?? 0) + 1)
  }
  return types
    .filter(({ isKnown, counts }) => names || isKnown || STORED_STATUSES.some((status) => counts[status] > 0))
    .map((facts) => infoOf(facts, served.get(facts.type) ?? 0, demand))
}

export async function statsOf(store: Store, { demand = false } = {}): Promise<Stats> {
  const facts = await store.inspect({ stream: true, demand })
  const counts = noCounts()
  const concurrencyLimits: Stats['concurrencyLimits'] = {}
  for (const { type, counts: stored, maxConcurrency } of facts.types) {
    for (const status of STORED_STATUSES) counts[publicStatus(status)] += stored[status]
    if (maxConcurrency !== null) concurrencyLimits[type] = maxConcurrency
  }
  const sum = (of: (facts: TypeFacts) => number) => facts.types.reduce((all, type) => all + of(type), 0)
  return {
    counts,
    delayed: sum((type) => type.counts.delayed),
    dependent: sum((type) => type.counts.dependent),
    runnable: demand ? counts.processing + sum((type) => type.startable) : null,
    throughput: sum((type) => type.recent.throughput),
    concurrencyLimits,
    stream: { length: counts.pending + counts.processing, ...(facts.stream ?? streamOf(facts)) },
  }
}

function infoOf(facts: TypeFacts, workers: number, demand: boolean): TypeInfo {
  const { type, counts, recent, settings, isKnown: _, nextStartAt: __, startable, ...rules } = facts
  return {
    type,
    pending: WAITING_STATUSES.reduce((sum, status) => sum + counts[status], 0),
    delayed: counts.delayed,
    dependent: counts.dependent,
    processing: counts.processing,
    ...rules,
    runnable: demand ? counts.processing + startable : null,
    workers,
    ...recent,
    ...settings!,
  }
}

function streamOf({ lanes, workers, now }: Facts): Omit<StreamInfo, 'length'> {
  const consumers = workers.map(({ id, running, lastSeen }) => ({
    name: id,
    pending: running,
    idle: Math.max(0, now - lastSeen),
  }))
  return { groups: lanes.length, consumers, streams: lanes }
}
