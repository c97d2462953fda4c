import { noStoredCounts, type StoredStatus, WAITING_STATUSES } from '../../../task/status.ts'
import type { RecentRates } from '../../rates.ts'
import type { Facts, Holder, InspectQuery, StoreOptions, TaskFacts, TypeFacts, WorkerInfo } from '../../store.ts'
import type { Database, Row } from '../database/database.ts'
import type { Flows } from '../flows/flows.ts'
import type { Limits } from '../limits/limits.ts'
import type { Parts } from '../parts.ts'
import { AT, groupOf, TASKS, taskOf } from '../records/rows.ts'
import type { GroupScheduler } from '../turn/group-scheduler.ts'
import type { Planner } from '../turn/planner.ts'
import type { RateLog } from '../turn/rate-log.ts'
import type { Rates } from '../types/rates.ts'
import { type Registry, rulesOf } from '../types/types.ts'

const AHEAD_MAX = 10_000
const STARTABLE_MAX = 10_000
const NO_RATES: RecentRates = { throughput: 0, waitMs: null, runMs: null }

type Counts = Record<StoredStatus, number>

/** Reads facts about types, workers and a task. */
export class Inspection {
  readonly #database: Database
  readonly #registry: Registry
  readonly #rates: Rates
  readonly #groups: GroupScheduler
  readonly #limits: Limits
  readonly #planner: Planner
  readonly #rateLog: RateLog
  readonly #flows: Flows
  readonly #options: StoreOptions

  constructor(parts: Parts) {
    this.#database = parts.database
    this.#registry = parts.registry
    this.#rates = parts.rates
    this.#groups = parts.groups
    this.#limits = parts.limits
    this.#planner = parts.planner
    this.#rateLog = parts.rateLog
    this.#flows = parts.flows
    this.#options = parts.options
  }

  inspect(query: InspectQuery, now: number): Facts {
    const task = query.task === undefined ? null : this.#task(query.task, query.successors ?? 0)
    const names = query.task === undefined ? query.types : task ? [task.task.type] : []
    const counts = this.#counts(names)
    const rates = this.#rates.recent(now, names)
    // A single type costs the same regardless of the number of types.
    const rows = names && [...names].sort().flatMap((name): Row[] => this.#database.all('typeByName', name))
    const types = (rows ?? this.#database.all('allTypes')).map((row): TypeFacts => {
      const type = row.type as string
      const { maxConcurrency, groupConcurrency, groupTurns, rate, paused, heldUntil, declared, ...record } =
        rulesOf(row)
      const { payloadSchema, defaults, ceilings, retention } = record
      return {
        type,
        isKnown: this.#registry.isKnown(type, now),
        counts: counts.get(type) ?? noStoredCounts(),
        maxConcurrency,
        groupConcurrency,
        groupTurns,
        rate,
        paused,
        heldUntil: heldUntil !== null && heldUntil > now ? heldUntil : null,
        declared,
        recent: rates.get(type) ?? NO_RATES,
        settings: query.settings ? { payloadSchema, defaults, ceilings, retention } : null,
        holders: query.holders ? this.#database.all('holders', type).map(holderOf) : [],
        nextStartAt: query.holders && rate ? this.#rateLog.nextAt(type, rate, now) : null,
        startable: query.demand && counts.get(type)?.pending ? this.#startable(type, now) : 0,
      }
    })
    const limits = this.#limits.facts(task ? task.task.uses : (query.limits ?? []), now, query.holders ?? false)
    const lanes = [...counts].map(([name, of]) => ({ name, length: unfinished(of) }))
    return { now, types, workers: this.#workers(now), lanes, limits, task, stream: null }
  }

  #task(id: string, successorsMax: number): TaskFacts | null {
    const [row] = this.#database.query(`${TASKS} WHERE t.id = ?`, id)
    if (!row) return null
    const task = taskOf(row)
    const { type, priority, runAt, group } = task
    const [seq, status] = [row[AT.seq] as number, row[AT.status]]
    const ready = { type, priority, lane: row[AT.lane] as string, runAt, seq }
    return {
      task,
      ahead: status === 'pending' ? this.#groups.ahead(ready, AHEAD_MAX) : 0,
      waitsFor: status === 'dependent' ? this.#flows.awaitedBy(seq) : [],
      successors: this.#flows.successorsOf(task.id, successorsMax),
      groupLimit: group === null ? null : this.#planner.groupLimit(type).of(group),
      holdersOfGroup: group === null ? [] : this.#database.all('holdersInGroup', type, group).map(holderOf),
    }
  }

  #startable(type: string, now: number): number {
    return this.#planner.startable(this.#database, type, STARTABLE_MAX, now)
  }

  #workers(now: number): WorkerInfo[] {
    const running = new Map(this.#database.all('runningByWorker').map((row) => [row.worker_id, row.n as number]))
    return this.#database.all('liveWorkers', now - this.#options.workerTtlMs).map((row) => ({
      id: row.id as string,
      host: row.host as string,
      pid: row.pid as number,
      types: JSON.parse(row.types as string),
      concurrency: row.concurrency as number,
      startedAt: row.started_at as number,
      lastSeen: row.last_seen as number,
      running: running.get(row.id!) ?? 0,
      processed: row.processed as number,
      failed: row.failed as number,
    }))
  }

  /** @param types default all */
  #counts(types?: readonly string[]): Map<string, Counts> {
    const counts = new Map<string, Counts>()
    const rows = types?.flatMap((type) => this.#database.all('countsOf', type))
    for (const { type, status, n } of rows ?? this.#database.all('allCounts')) {
      const ofType = counts.get(type as string) ?? noStoredCounts()
      counts.set(type as string, { ...ofType, [status as StoredStatus]: n as number })
    }
    return counts
  }
}

function holderOf(row: Row): Holder {
  return {
    taskId: row.id as string,
    workerId: row.worker_id as string,
    since: row.started_at as number,
    expiresAt: row.expires_at as number,
    group: groupOf(row.task_group),
  }
}

function unfinished(counts: Counts): number {
  return [...WAITING_STATUSES, 'processing' as const].reduce((sum, status) => sum + counts[status], 0)
}
