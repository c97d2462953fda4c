import { NO_RETENTION } from '../../task/retention.ts'
import { RETRY_DEFAULTS, retryDelaysMs } from '../../task/retry.ts'
import { BUCKETS, GatheredRates, PERCENTILE_SLOTS, type RecentRates, RecentSlots, SLOT_MS } from '../rates.ts'
import { unknownType } from '../refusals.ts'
import type { HandlerSettings, Holder, Rate, StoreOptions, TypeChange, TypeInfo, WorkerInfo } from '../store.ts'
import type { Database } from './database.ts'
import { idOfRef } from './ids.ts'
import type { Reply } from './redis-connection.ts'
import { leaseOf, readExtras } from './rows.ts'
import { pairs, readWorkers, slotsOf, workersOf } from './who.ts'

/** The back-off of a type's retries; scripts read the other rules of the type themselves. */
export interface BackOff {
  delaysMs: readonly number[]
  jitter: number
}

const DEFAULT_BACK_OFF: BackOff = { delaysMs: retryDelaysMs(RETRY_DEFAULTS), jitter: RETRY_DEFAULTS.jitter }
/** A back-off is read again after this time, in case the message of its change was lost. */
const CACHE_MS = 10_000
/** Maximum number of types in one step. */
const TYPES_AT_ONCE = 500
/** Approximate number of statistics fields that one step reads; and maximum number of types that it reads by name. */
const FIELDS_AT_ONCE = 20_000
const NAMES_ALONE_MAX = 10

type TypeAnswer = [
  type: string,
  rules: string,
  backOff: string,
  schema: string,
  defaults: string,
  lastSeen: string,
  declared: number,
  waiting: number,
  delayed: string,
  running: number,
  finished: string[],
  holders: string[],
  starts: string[],
  dependent: string,
  ceilings: string,
  retention: string,
]

/** A type, with fields that only the engine uses. */
export interface KnownType extends TypeInfo {
  /** Whether it may be submitted. */
  known: boolean
  /** The time at which its rate allows the next start; null: now. Included with the holders. */
  nextStartAt: number | null
}

/** One partition's answer about its types and workers. */
interface About {
  partition: number
  types: TypeAnswer[]
  workers: WorkerInfo[]
  lanes: { name: string; length: number }[]
  rates: Map<string, RecentRates>
}

type InspectAnswer = [now: string, types: TypeAnswer[], running: (string | number)[], streams: (string | number)[]]

type WhoAnswer = [
  types: string[],
  workers: string[],
  worked: string[],
  groupsRunning: string[],
  slots: (string | string[])[],
  next: string,
]

/** Types and workers. */
export class Registry {
  readonly rates = new GatheredRates()
  readonly #database: Database
  readonly #options: StoreOptions
  /** The handlers that this process declared, in case Redis loses them. */
  readonly #declared = new Map<string, HandlerSettings>()
  readonly #backOffs = new Map<string, BackOff & { at: number }>()

  constructor(database: Database, options: StoreOptions) {
    this.#database = database
    this.#options = options
  }

  /** The back-off of a type that `know` has read. */
  policy(type: string): BackOff {
    return this.#backOffs.get(type) ?? DEFAULT_BACK_OFF
  }

  async know(types: readonly string[]): Promise<void> {
    const now = Date.now()
    const unknown = [...new Set(types)].filter((type) => now - (this.#backOffs.get(type)?.at ?? 0) > CACHE_MS)
    for (const [partition, some] of Map.groupBy(unknown, (type) => this.#database.partitionOf(type))) {
      for (let from = 0; from < some.length; from += TYPES_AT_ONCE) {
        const asked = some.slice(from, from + TYPES_AT_ONCE)
        const answers = await this.#database.run<(string | null)[]>('back_offs', partition, [asked.length, ...asked])
        answers.forEach((text, index) => {
          this.#backOffs.set(asked[index]!, { ...readBackOff(text ?? ''), at: now })
        })
      }
    }
  }

  /** A type was changed, by this process or another. */
  forget(type: string): void {
    this.#backOffs.delete(type)
  }

  /** @throws XQueueError `unknown_type` for a change of a type that does not exist */
  async configure(type: string, change: TypeChange): Promise<void> {
    const [answer] = await this.#configure(this.#database.partitionOf(type), [[type, change]])
    if (answer !== 'ok') throw unknownType(type, await this.known())
  }

  /** Declares this process's handlers. */
  async declare(handlers: ReadonlyMap<string, HandlerSettings>): Promise<void> {
    await this.#tell(handlers)
  }

  /** Redis may have lost the last declarations, or everything. */
  async tellAgain(): Promise<void> {
    const declared = [...this.#declared]
    for (let from = 0; from < declared.length; from += TYPES_AT_ONCE) {
      await this.#tell(new Map(declared.slice(from, from + TYPES_AT_ONCE)), true)
    }
  }

  async #tell(handlers: ReadonlyMap<string, HandlerSettings>, ifMissing = false): Promise<void> {
    const changes = [...handlers].map(([type, handler]) => [type, { handler }] as const)
    for (const [partition, some] of Map.groupBy(changes, ([type]) => this.#database.partitionOf(type))) {
      await this.#configure(partition, some, ifMissing)
    }
  }

  /** @param ifMissing does not change a type that a handler has already declared */
  async #configure(
    partition: number,
    changes: readonly (readonly [type: string, change: TypeChange])[],
    ifMissing = false,
  ): Promise<Reply[]> {
    const args = [this.#database.wasMet(partition), ifMissing ? '1' : '', changes.length]
    for (const [type] of changes) args.push(type)
    for (const [type, change] of changes) args.push(...argsOf(type, change))
    if (changes.some(([, { handler, declared }]) => handler || declared)) await this.#database.partitions.add(partition)
    const answers = await this.#database.run<Reply[]>('configure', partition, args)
    this.#database.met(partition)
    for (const [index, [type, { handler }]] of changes.entries()) {
      this.forget(type)
      if (handler && answers[index] === 'ok') this.#declared.set(type, handler)
    }
    return answers
  }

  /** The types that may be submitted. */
  async known(): Promise<string[]> {
    const infos = await this.types()
    return infos.filter(({ known }) => known).map(({ type }) => type)
  }

  async types(names?: readonly string[], withHolders = false): Promise<KnownType[]> {
    if (names?.length === 0) return []
    await this.writeRates()
    const now = this.#database.now()
    const abouts = await this.#about(names, withHolders)
    const served = new Map<string, number>()
    for (const type of workersOf(abouts).flatMap(({ types }) => [...new Set(types)])) {
      served.set(type, (served.get(type) ?? 0) + 1)
    }
    const infos = abouts.flatMap(({ partition, types, rates }) =>
      types.map((answer) => {
        const [type, text, , schema, defaults, lastSeen, declared, waiting, delayed, processing] = answer
        const { starts, ...rules } = rulesOf(text, answer[12])
        const [dependent, ceilings, retention] = [answer[13], answer[14], answer[15]]
        const { throughput = 0, waitMs = null, runMs = null } = rates.get(type) ?? {}
        return {
          type,
          pending: waiting + Number(delayed) + Number(dependent),
          delayed: Number(delayed),
          dependent: Number(dependent),
          processing,
          ...rules,
          nextStartAt: nextStartAt(rules.rate, starts, now),
          declared: declared === 1,
          workers: served.get(type) ?? 0,
          throughput,
          waitMs,
          runMs,
          payloadSchema: schema === '' ? null : JSON.parse(schema),
          defaults: defaults === '' ? {} : JSON.parse(defaults),
          ceilings: ceilings === '' ? {} : JSON.parse(ceilings),
          retention: retention === '' ? NO_RETENTION : JSON.parse(retention),
          holders: holdersOf(partition, answer),
          known: declared === 1 || Number(lastSeen) > now - this.#options.typeTtlMs,
        }
      }),
    )
    return infos.sort((a, b) => (a.type < b.type ? -1 : 1))
  }

  async workers(): Promise<WorkerInfo[]> {
    const alive = this.#database.now() - this.#options.workerTtlMs
    return workersOf(await this.#about(undefined, false)).filter(({ lastSeen }) => lastSeen > alive)
  }

  /** Whether a live worker runs a type. */
  async isServed(type: string): Promise<boolean> {
    const alive = this.#database.now() - this.#options.workerTtlMs
    const whos = await this.#database.partitions.each((partition) => this.#who(partition, [type]))
    const workers = whos.flatMap(({ workers, worked, groupsRunning }) => readWorkers(workers, worked, groupsRunning))
    return workers.some(({ types, lastSeen }) => lastSeen > alive && types.includes(type))
  }

  /** Everything in one call, for statistics. */
  async all(): Promise<{ types: TypeAnswer[]; workers: WorkerInfo[]; lanes: About['lanes']; throughput: number }> {
    await this.writeRates()
    const abouts = await this.#about(undefined, false)
    const throughput = abouts
      .flatMap(({ rates }) => [...rates.values()])
      .reduce((sum, rate) => sum + rate.throughput, 0)
    return {
      types: abouts.flatMap(({ types }) => types),
      workers: workersOf(abouts),
      lanes: abouts.flatMap(({ lanes }) => lanes),
      throughput,
    }
  }

  /** The lanes of a partition, `<type>:<priority>`. */
  async lanes(partition: number, type?: string): Promise<string[]> {
    const [about] = await this.#about(type === undefined ? undefined : [type], false, [partition])
    // Tasks in groups are listed separately from the lanes that they are a part of.
    return (about?.lanes ?? []).map(({ name }) => name).filter((name) => !name.endsWith(')'))
  }

  /** Adds the gathered statistics to those of all processes. */
  async writeRates(): Promise<void> {
    const byPartition = new Map<number, string[]>()
    for (const [type, { finished, wait, run }] of this.rates.take()) {
      const partition = this.#database.partitionOf(type)
      const fields = byPartition.get(partition) ?? []
      byPartition.set(partition, fields)
      if (finished > 0) fields.push(`${type} f`, String(finished))
      for (const [letter, histogram] of [
        ['w', wait],
        ['r', run],
      ] as const) {
        histogram.forEach((n, bucket) => {
          if (n > 0) fields.push(`${type} ${letter}${bucket}`, String(n))
        })
      }
    }
    const slot = Math.floor(this.#database.now() / SLOT_MS)
    for (const [partition, fields] of byPartition) {
      await this.#database.run('rates', partition, [slot, fields.length / 2, ...fields])
    }
  }

  async #about(names: readonly string[] | undefined, withHolders: boolean, partitions?: number[]): Promise<About[]> {
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
          const args = [some.length, ...some, withHolders ? '1' : '']
          const [time, answers, held, streams] = await this.#database.run<InspectAnswer>('inspect', partition, args)
          this.#database.sawTime(time)
          about.types.push(...answers)
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
    let [next, answer]: [number, WhoAnswer | null] = [last - PERCENTILE_SLOTS + 1, null]
    do {
      const args = [names || answer ? '' : '1', next, last, FIELDS_AT_ONCE, few.length, ...few, BUCKETS]
      const some: WhoAnswer = await this.#database.run<WhoAnswer>('who', partition, args)
      const [slots, on] = [some[4], some[5]]
      for (let index = 0; index < slots.length; index += 2) {
        for (const [type, slot] of slotsOf(slots[index + 1] as string[])) recent.add(type, Number(slots[index]), slot)
      }
      answer ??= some
      next = on === '' ? Number.POSITIVE_INFINITY : Number(on)
    } while (next <= last)
    const [types, workers, worked, groupsRunning] = answer
    return {
      types: names ?? types,
      workers,
      worked: pairs(worked),
      groupsRunning: new Map([...pairs(groupsRunning)].map(([json, tasks]) => [JSON.parse(json) as string, tasks])),
      rates: recent.rates(),
    }
  }
}

function holdersOf(partition: number, [, , , , , , , , , , , holders]: TypeAnswer): Holder[] {
  const found: Holder[] = []
  for (let index = 0; index < holders.length; index += 2) {
    const { workerId, startedAt, expiresAt } = leaseOf(holders[index + 1]!)
    const { group } = readExtras(holders[index + 1]!.split('\n')[1]!)
    found.push({ taskId: idOfRef(partition, holders[index]!), workerId, group, since: startedAt, expiresAt })
  }
  return found.sort((a, b) => a.since - b.since || (a.taskId < b.taskId ? -1 : 1))
}

/** A type and its change, as arguments of configure.lua. */
function argsOf(type: string, change: TypeChange): string[] {
  const { handler, declared, maxConcurrency, groupConcurrency, rate, paused, ceilings, retention } = change
  const args = [type, handler || declared ? '1' : '']
  if (handler) {
    const { retry, payloadSchema, defaults } = handler
    const backOff = { delaysMs: retryDelaysMs(retry), jitter: retry.jitter }
    const limits = [handler.maxConcurrency, handler.groupConcurrency, handler.rate?.max, handler.rate?.perMs]
    args.push('1', ...limits.map((limit) => String(limit ?? '')), writeBackOff(backOff))
    args.push(payloadSchema === null ? '' : JSON.stringify(payloadSchema), JSON.stringify(defaults))
  } else args.push('', '', '', '', '', '', '', '')
  const flag = (value: boolean | undefined) => (value === undefined ? '' : value ? '1' : '0')
  const limit = (value: number | null | undefined) => (value === undefined ? '' : String(value ?? 'none'))
  args.push(flag(declared), limit(maxConcurrency), limit(groupConcurrency), limit(rate === null ? null : rate?.max))
  const json = (value: object | undefined) => (value === undefined ? '' : JSON.stringify(value))
  args.push(String(rate?.perMs ?? ''), flag(paused), json(ceilings), json(retention))
  args.push(handler ? JSON.stringify(handler.retention ?? {}) : '')
  return args
}

function writeBackOff({ delaysMs, jitter }: BackOff): string {
  return [jitter, ...delaysMs].join(',')
}

/** @param text '' if no handler has declared one */
function readBackOff(text: string): BackOff {
  if (text === '') return DEFAULT_BACK_OFF
  const [jitter = 0, ...delaysMs] = text.split(',').map(Number)
  return { jitter, delaysMs }
}

/** `paused,limit,who,limit of a group,who,rate's max,window,who`, see shared.lua. */
export function rulesOf(text: string, starts: readonly string[] = []) {
  const [paused, limit, , groupLimit, , max, per] = text.split(',')
  const numberOrNull = (value: string | undefined) => (value === '' ? null : Number(value))
  return {
    paused: paused === '1',
    maxConcurrency: numberOrNull(limit),
    groupConcurrency: numberOrNull(groupLimit),
    rate: max === '' ? null : { max: Number(max), perMs: Number(per) },
    starts,
  }
}

/** @param starts `<at>,<how many>` each, oldest first */
function nextStartAt(rate: Rate | null, starts: readonly string[], now: number): number | null {
  if (!rate) return null
  const counting = starts.map((start) => start.split(',').map(Number) as [at: number, count: number])
  let sum = counting.reduce((all, [at, count]) => all + (at + rate.perMs > now ? count : 0), 0)
  if (sum < rate.max) return null
  for (const [at, count] of counting) {
    if (at + rate.perMs <= now) continue
    sum -= count
    if (sum < rate.max) return at + rate.perMs
  }
  return null
}
