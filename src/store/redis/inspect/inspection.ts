import { FINAL_STATUSES } from '../../../task/status.ts'
import { BUCKETS, PERCENTILE_SLOTS, type RecentRates, RecentSlots, SLOT_MS } from '../../rates.ts'
import type { Facts, Holder, InspectQuery, Rate, StoreOptions, TypeFacts, WorkerInfo } from '../../store.ts'
import type { Database } from '../client/database.ts'
import { idOfRef } from '../records/ids.ts'
import { extrasOfLease, leaseOf } from '../records/rows.ts'
import type { Registry } from '../types/registry.ts'
import { readRules, readSettings, type TypeFields } from '../types/type-fields.ts'
import { pairs, readWho, readWorkers, slotsOf, type Who, type WhoReply, workersOf } from './who.ts'

/** Maximum number of types in one step. */
const TYPES_AT_ONCE = 500
/** Approximate number of statistics fields that one step reads; and maximum number of types that it reads by name. */
const FIELDS_AT_ONCE = 20_000
const NAMES_ALONE_MAX = 10
/** Maximum number of tasks that could start, as counted. */
const STARTABLE_MAX = 10_000
const NO_RATES: RecentRates = { throughput: 0, waitMs: null, runMs: null }

/** A type in the answer of inspect.lua; `readType` is its only reader. */
type TypeReply = [
  type: string,
  fields: TypeFields,
  lastSeen: string,
  waiting: number,
  delayed: string,
  dependent: string,
  running: number,
  finished: string[],
  holders: [ref: string, lease: string][],
  starts: string[],
  startable: number,
]

type StoredType = ReturnType<typeof readType>
type Rules = Pick<StoredType, 'counts' | 'maxConcurrency' | 'rate'>
/** The costly parts of an answer. */
type Asked = Pick<InspectQuery, 'holders' | 'demand'>

function readType(partition: number, reply: TypeReply) {
  const [type, fields, lastSeen, waiting, delayed, dependent, processing, finished, holders, starts, startable] = reply
  const { setByOperator: _, ...rules } = readRules(fields)
  return {
    type,
    ...rules,
    lastSeen: Number(lastSeen),
    counts: {
      pending: waiting,
      delayed: Number(delayed),
      dependent: Number(dependent),
      processing,
      ...finishedOf(finished),
    },
    holders: holdersOf(partition, holders),
    starts,
    startable,
    readSettings: () => readSettings(fields),
  }
}

/** One partition's answer about its types and workers. */
interface About {
  partition: number
  types: StoredType[]
  workers: WorkerInfo[]
  lanes: { name: string; length: number }[]
  rates: Map<string, RecentRates>
}

type InspectReply = [now: string, types: TypeReply[], running: (string | number)[], streams: (string | number)[]]

/** Reads facts about types and workers, over all partitions. */
export class Inspection {
  readonly #database: Database
  readonly #registry: Registry
  readonly #options: StoreOptions

  constructor(database: Database, registry: Registry, options: StoreOptions) {
    this.#database = database
    this.#registry = registry
    this.#options = options
  }

  async inspect({ types: names, limits, ...query }: InspectQuery): Promise<Facts> {
    const { settings = false, holders = false, demand = false } = query
    if (names?.length === 0 && limits !== undefined) return this.#facts([], [])
    await this.#registry.writeRates()
    // To count the running tasks of workers, all types must be read.
    const onlyWorkers = names?.length === 0
    const abouts = await this.#about(onlyWorkers ? undefined : names, { holders, demand })
    const now = this.#database.now()
    const types = onlyWorkers ? [] : abouts.flatMap((about) => this.#typesOf(about, settings, now))
    return this.#facts(abouts, types)
  }

  #facts(abouts: readonly About[], types: TypeFacts[]): Facts {
    return {
      now: this.#database.now(),
      types: types.sort((a, b) => (a.type < b.type ? -1 : 1)),
      workers: this.#live(workersOf(abouts)),
      lanes: abouts.flatMap(({ lanes }) => lanes),
      limits: [],
      task: null,
      stream: null,
    }
  }

  /** The live workers of a type: each partition knows only when it has heard from them last. */
  async workersOf(type: string): Promise<WorkerInfo[]> {
    const whos = await this.#database.partitions.each((partition) => this.#who(partition, [type]))
    const workers = whos.map(({ workers, worked, groupsRunning }) => ({
      workers: readWorkers(workers, worked, groupsRunning),
    }))
    return this.#live(workersOf(workers)).filter(({ types }) => types.includes(type))
  }

  /** The types that may be submitted. */
  async known(): Promise<string[]> {
    const { types } = await this.inspect({})
    return types.filter(({ isKnown }) => isKnown).map(({ type }) => type)
  }

  /** The lanes of a partition, `<type>:<priority>`. */
  async lanes(partition: number, type?: string): Promise<string[]> {
    const [about] = await this.#about(type === undefined ? undefined : [type], {}, [partition])
    // Tasks in groups are listed separately from the lanes that they are a part of.
    return (about?.lanes ?? []).map(({ name }) => name).filter((name) => !name.endsWith(')'))
  }

  #live(workers: WorkerInfo[]): WorkerInfo[] {
    const alive = this.#database.now() - this.#options.workerTtlMs
    return workers.filter(({ lastSeen }) => lastSeen > alive)
  }

  #typesOf({ types, rates }: About, withSettings: boolean, now: number): TypeFacts[] {
    return types.map(({ lastSeen, starts, startable, heldUntil, readSettings, ...stored }) => ({
      ...stored,
      heldUntil: heldUntil !== null && heldUntil > now ? heldUntil : null,
      isKnown: stored.declared || lastSeen > now - this.#options.typeTtlMs,
      recent: rates.get(stored.type) ?? NO_RATES,
      settings: withSettings ? readSettings() : null,
      nextStartAt: nextStartAt(stored.rate, starts, now),
      startable: isClosed(stored.paused, heldUntil, now) ? 0 : startableOf(stored, startable, starts, now),
    }))
  }

  async #about(names: readonly string[] | undefined, costly: Asked, partitions?: number[]): Promise<About[]> {
    const byPartition = new Map<number, string[]>()
    for (const name of names ?? []) {
      const partition = this.#database.partitionOf(name)
      byPartition.set(partition, [...(byPartition.get(partition) ?? []), name])
    }
    const ask = async (partition: number): Promise<About> => {
      const asked = names && (byPartition.get(partition) ?? [])
      const asking = this.#who(partition, asked)
      const about: About = { partition, types: [], workers: [], lanes: [], rates: new Map() }
      const running = new Map<string, number>()
      const tell = async (types: readonly string[]) => {
        for (let from = 0; from < types.length; from += TYPES_AT_ONCE) {
          const some = types.slice(from, from + TYPES_AT_ONCE)
          const args = [some.length, ...some, costly.holders ? '1' : '', costly.demand ? '1' : '']
          const [time, answers, held, streams] = await this.#database.run<InspectReply>('inspect', partition, args)
          this.#database.sawTime(time)
          about.types.push(...answers.map((answer) => readType(partition, answer)))
          for (const [worker, tasks] of pairs(held)) running.set(worker, (running.get(worker) ?? 0) + tasks)
          for (const [name, length] of pairs(streams)) about.lanes.push({ name, length })
        }
      }
      const [who] = await Promise.all([asking, tell(asked ?? (await asking).types)])
      about.rates = who.rates
      for (const [worker, tasks] of who.groupsRunning) running.set(worker, (running.get(worker) ?? 0) + tasks)
      about.workers = readWorkers(who.workers, who.worked, running)
      return about
    }
    const where = partitions ?? (names && [...byPartition.keys()])
    return where ? Promise.all(where.map(ask)) : this.#database.partitions.each(ask)
  }

  /** The types of a partition, or some of them; its workers; and recent statistics. Each step is bounded. */
  async #who(partition: number, names?: readonly string[]) {
    const now = this.#database.now()
    const last = Math.floor(now / SLOT_MS)
    const recent = new RecentSlots(now)
    const few = names !== undefined && names.length <= NAMES_ALONE_MAX ? names : []
    let first: Who | null = null
    for (let next: number | null = last - PERCENTILE_SLOTS + 1; next !== null && next <= last; ) {
      const args = [names || first ? '' : '1', next, last, FIELDS_AT_ONCE, few.length, ...few, BUCKETS]
      const who: Who = readWho(await this.#database.run<WhoReply>('who', partition, args))
      for (const { slot, fields } of who.slots) {
        for (const [type, rates] of slotsOf(fields)) recent.add(type, slot, rates)
      }
      first ??= who
      next = who.next
    }
    const { types, workers, worked, groupsRunning } = first!
    return { types: names ?? types, workers, worked, groupsRunning, rates: recent.rates() }
  }
}

function finishedOf(pairsOfCounts: readonly string[]): Record<(typeof FINAL_STATUSES)[number], number> {
  const counts = pairs(pairsOfCounts)
  const [success, failed, canceled, timeout] = FINAL_STATUSES.map((status) => counts.get(status) ?? 0)
  return { success: success!, failed: failed!, canceled: canceled!, timeout: timeout! }
}

function holdersOf(partition: number, holders: readonly (readonly [ref: string, lease: string])[]): Holder[] {
  const found = holders.map(([ref, lease]) => {
    const { workerId, startedAt, expiresAt } = leaseOf(lease)
    return { taskId: idOfRef(partition, ref), workerId, group: extrasOfLease(lease).group, since: startedAt, expiresAt }
  })
  return found.sort((a, b) => a.since - b.since || (a.taskId < b.taskId ? -1 : 1))
}

function isClosed(isPaused: boolean, heldUntil: number | null, now: number): boolean {
  return isPaused || (heldUntil !== null && heldUntil > now)
}

/** The tasks that the limit and the rate of their type allow to start, of those that their groups allow. */
function startableOf(
  { counts, maxConcurrency, rate }: Rules,
  ofGroups: number,
  starts: readonly string[],
  now: number,
) {
  const free = maxConcurrency === null ? STARTABLE_MAX : Math.max(0, maxConcurrency - counts.processing)
  const started = rate ? countedStarts(rate, starts, now).reduce((sum, [, count]) => sum + count, 0) : 0
  return Math.min(ofGroups, free, STARTABLE_MAX, rate ? Math.max(0, rate.max - started) : STARTABLE_MAX)
}

/** The starts in the window of a rate, oldest first. */
function countedStarts({ perMs }: Rate, starts: readonly string[], now: number): [at: number, count: number][] {
  const all = starts.map((start) => start.split(',').map(Number) as [at: number, count: number])
  return all.filter(([at]) => at + perMs > now)
}

/** @param starts `<at>,<how many>` each, oldest first */
function nextStartAt(rate: Rate | null, starts: readonly string[], now: number): number | null {
  if (!rate) return null
  const counting = countedStarts(rate, starts, now)
  let sum = counting.reduce((all, [, count]) => all + count, 0)
  if (sum < rate.max) return null
  for (const [at, count] of counting) {
    sum -= count
    if (sum < rate.max) return at + rate.perMs
  }
  return null
}
