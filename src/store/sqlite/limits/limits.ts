import type { TaskSpec } from '../../../task/task.ts'
import {
  familyOf,
  hasUnits,
  isOfEachKey,
  isOfGroup,
  limitsOfLane,
  nameOfGroupLimit,
  typeOfGroupLimit,
  type Uses,
} from '../../../task/uses.ts'
import { changedLimit, createsLimit, type LimitRecord, NEW_LIMIT } from '../../limit-record.ts'
import { limitInUse, refuseUses, tooManyLimits, unknownLimit } from '../../refusals.ts'
import { LIMITS_MAX, type LimitChange, type LimitFacts, type LimitHolder, type Rate } from '../../store.ts'
import type { Database, Row } from '../database/database.ts'
import type { Tx } from '../database/writer.ts'
import { groupOf, usesOf } from '../records/rows.ts'
import type { RateLog } from '../turn/rate-log.ts'
import { type Block, Rooms } from './rooms.ts'
import { UnitsInUse } from './units-in-use.ts'

/** The log of the units that started has this before the name; the spaces rule out a type of the same name. */
const UNITS_OF = 'units of '
/** Lanes that a wake-up checks in the order of the rotation. */
const LANES_MAX = 100
/** Lanes that a list reads, and tasks of each that are counted. */
const LANES_READ_MAX = 10_000
const WAITING_MAX = 10_000
const WAITERS_MAX = 100
const HOLDERS_MAX = 1_000
const OPERATOR = 'operator'

/** The limit of each group of a type. */
export interface GroupLimit {
  /** Whether any group has one. */
  isSet: boolean
  of(group: string): number | null
}

/**
 * Named limits. What is in use is the sum over the tasks in flight. A lane whose next task needs more than a limit has
 * left is blocked by it, and woken when the limit may have room: at most as many lanes of a type as there are free
 * units, so the cost does not grow with the number of lanes that wait.
 */
export class Limits {
  readonly #database: Database
  readonly #rateLog: RateLog
  readonly #records = new Map<string, LimitRecord | null>()
  readonly #ofGroups = new Map<string, ReadonlyMap<string, number | null>>()
  readonly #inUse: UnitsInUse
  /** A lower bound of the time at which the next limit opens; null: not known. */
  #opensAt: number | null = null
  /** Whether a lane may wait for a limit. */
  #mayBlock = true

  constructor(database: Database, rateLog: RateLog) {
    this.#database = database
    this.#rateLog = rateLog
    this.#inUse = new UnitsInUse(database)
  }

  /** Another process has written, or a transaction was rolled back. */
  forget(): void {
    this.#records.clear()
    this.#ofGroups.clear()
    this.#opensAt = null
    this.#mayBlock = true
    this.#inUse.forget()
  }

  /** @throws XQueueError `unknown_limit`, or `invalid_request` for units that are never free */
  refuse(specs: readonly (readonly [index: number, spec: TaskSpec])[]): void {
    refuseUses(specs, (name) => this.#settings(name))
  }

  rooms(now: number): Rooms {
    return new Rooms(this, now)
  }

  /** The units of a limit that may start now; Infinity for a name without a limit. */
  room(name: string, now: number): number {
    const record = this.#settings(name)
    if (!record) return Number.POSITIVE_INFINITY
    if (record.paused || this.#heldUntil(name, record) > now) return 0
    const { max, rate } = record
    const free = max === null ? Number.POSITIVE_INFINITY : max - this.#inUse.of(name)
    return rate === null || free <= 0 ? free : Math.min(free, this.#rateLog.allows(UNITS_OF + name, rate, now))
  }

  /** When a hold or a rate allows so many units; null if something else is in the way, or nothing is. */
  opensAt(name: string, units: number, now: number): number | null {
    const record = this.#settings(name)
    if (!record || record.paused) return null
    const heldUntil = this.#heldUntil(name, record)
    if (heldUntil > now) return heldUntil
    return record.rate && this.#rateLog.nextAt(UNITS_OF + name, record.rate, now, units)
  }

  /** The limits of the groups of a type, whose common one is `each`. */
  ofGroups(type: string, each: number | null): GroupLimit {
    let own = this.#ofGroups.get(type)
    if (own === undefined) {
      const prefix = nameOfGroupLimit(type, '')
      const rows = this.#database.all('limitsOfGroups', prefix, behind(prefix))
      own = new Map(rows.map(({ name, max }) => [(name as string).slice(prefix.length), max as number | null]))
      this.#ofGroups.set(type, own)
    }
    const of = own
    if (of.size === 0) return { isSet: each !== null, of: (group) => (group === '' ? null : each) }
    return { isSet: true, of: (group) => (group === '' ? null : of.has(group) ? of.get(group)! : each) }
  }

  /** A claim has started tasks that use limits. */
  started(now: number, all: readonly Uses[]): void {
    const tasks = new Map<Uses, number>()
    for (const uses of all) tasks.set(uses, (tasks.get(uses) ?? 0) + 1)
    const units = new Map<string, number>()
    for (const [uses, count] of tasks) {
      this.#inUse.change(uses, count)
      for (const name in uses) units.set(name, (units.get(name) ?? 0) + uses[name]! * count)
    }
    for (const [name, count] of units) {
      const rate = this.#settings(name)?.rate
      if (rate) this.#rateLog.add(UNITS_OF + name, rate, now, count)
    }
  }

  /** The lease of a task that used limits has ended. `usage`: the units that it used in fact. */
  ended(tx: Tx, startedAt: number | null, uses: Uses, usage?: Uses): void {
    this.#inUse.change(uses, -1)
    tx.freedUses.add(uses)
    if (usage === undefined) return
    for (const name in uses) {
      const more = Object.hasOwn(usage, name) ? usage[name]! - uses[name]! : 0
      if (more !== 0 && this.#settings(name)?.rate) {
        this.#database.run('correctStarts', UNITS_OF + name, startedAt!, more)
      }
    }
  }

  /** A lane is set aside, blocked by a limit. */
  block(type: string, priority: number, lane: string, { limit, need, until }: Block): void {
    this.#database.run('ringBlocked', limit, need, type, priority, lane)
    this.#mayBlock = true
    if (until !== null) this.#waitUntil(limit, until)
  }

  /** Makes the lanes ready that the limits freed in this transaction, or opened by time, may start; whether any is. */
  wake(tx: Tx): boolean {
    this.#open(tx)
    let woken = false
    if (tx.freedLimits.size + tx.freedUses.size > 0 && this.#isAnyBlocked()) {
      for (const uses of tx.freedUses) for (const name in uses) tx.freedLimits.add(name)
      for (const name of tx.freedLimits) woken = this.#wake(tx, name) || woken
    }
    tx.freedLimits.clear()
    tx.freedUses.clear()
    return woken
  }

  /** When a limit opens by time for which lanes wait; Infinity is never. */
  nextOpenAt(): number {
    this.#opensAt ??= (this.#database.get('nextLimitWait')!.at as number | null) ?? Number.POSITIVE_INFINITY
    return this.#opensAt
  }

  /** Starts no task that uses the limit before a time; a longer hold stays. False if there is no such limit. */
  hold(name: string, until: number): boolean {
    if (!this.#settings(name)) return false
    const own = this.#record(name)
    if (own) this.#put(name, { ...own, heldUntil: Math.max(own.heldUntil ?? 0, until) })
    else this.#database.run('holdKey', name, until)
    return true
  }

  /** @throws XQueueError `unknown_limit`, `limit_in_use`, `too_many_limits` */
  configure(tx: Tx, name: string, change: LimitChange): void {
    const before = this.#record(name)
    if (change.remove) {
      if (!before) throw unknownLimit(name)
      if (this.#isInUse(name)) throw limitInUse(name)
      this.#database.run('dropLimit', name)
      this.#forget(name)
      // The rate of all keys may be in force for it again.
      if (!this.#settings(name)?.rate) this.#database.run('dropStarts', UNITS_OF + name)
    } else {
      if (!before && !createsLimit(change)) this.#refuseStranger(name)
      if (!before && isOnlyHold(change)) {
        this.#holdKey(tx, name, change.heldUntil!)
        return
      }
      if (!before && (this.#database.get('countLimits')!.n as number) >= LIMITS_MAX) throw tooManyLimits()
      const settings = before ?? (createsLimit(change) ? NEW_LIMIT : this.#settings(name)!)
      this.#put(name, changedLimit(settings, change))
      this.#database.run('dropHoldOfKey', name)
      if (before?.rate && !change.rate && change.rate !== undefined) this.#database.run('dropStarts', UNITS_OF + name)
    }
    this.#changed(tx, name)
  }

  /** @param which names, all that have settings, or the uses of a task */
  facts(which: readonly string[] | 'all' | Uses, now: number, withHolders: boolean): LimitFacts[] {
    const units = (name: string) => (typeof which === 'object' && !isArray(which) ? which[name]! : 1)
    const named = typeof which === 'object' && (isArray(which) ? which : Object.keys(which))
    const all = named || this.#database.all('allLimits').map((row) => row.name as string)
    const some = all.filter((name) => this.#settings(name))
    const waiting = some.length > 0 ? this.#waitingByLimit() : new Map<string, number>()
    return some.map((name) => {
      const record = this.#settings(name)!
      const heldUntil = this.#heldUntil(name, record)
      const isCounted = hasUnits(name)
      return {
        name,
        ...record,
        heldUntil: heldUntil > now ? heldUntil : null,
        inUse: isCounted ? this.#inUse.of(name) : null,
        waiting: isCounted ? (waiting.get(name) ?? 0) : null,
        nextStartAt: isCounted ? this.opensAt(name, units(name), now) : null,
        holders: withHolders && isCounted ? this.#holders(name) : [],
        waiters: withHolders && typeof which === 'object' && isCounted ? this.#waiters(name) : [],
      }
    })
  }

  /** Deletes what is over by time. */
  drop(now: number): void {
    this.#database.run('dropHoldsOfKeys', now)
    this.#rateLog.forgetIdle(UNITS_OF, now)
  }

  /** The settings in force for a name: its own, or those of all keys. */
  #settings(name: string): LimitRecord | null {
    const family = familyOf(name)
    return this.#record(name) ?? (family === null ? null : this.#record(family))
  }

  #record(name: string): LimitRecord | null {
    let record = this.#records.get(name)
    if (record === undefined) {
      const row = this.#database.get('limitByName', name)
      record = row ? recordOf(row) : null
      if (this.#records.size > LIMITS_MAX) this.#records.clear()
      this.#records.set(name, record)
    }
    return record
  }

  #put(name: string, { max, rate, paused, heldUntil, setByOperator: by }: LimitRecord): void {
    const source = (isSet: boolean) => (isSet ? OPERATOR : 'handler')
    const values = [max, source(by.max), rate?.max ?? null, rate?.perMs ?? null, source(by.rate), Number(paused)]
    this.#database.run('putLimit', name, ...values, heldUntil)
    this.#forget(name)
  }

  #forget(name: string): void {
    this.#records.delete(name)
    this.#ofGroups.clear()
  }

  #heldUntil(name: string, { heldUntil }: LimitRecord): number {
    if (this.#record(name)) return heldUntil ?? 0
    return Math.max(heldUntil ?? 0, (this.#database.get('holdOfKey', name)?.held_until as number | undefined) ?? 0)
  }

  /** A key without settings of its own can be paused, which copies those of all keys, and held. */
  #refuseStranger(name: string): void {
    const family = familyOf(name)
    if (isOfGroup(name) || !(family && this.#record(family))) throw unknownLimit(name)
  }

  #holdKey(tx: Tx, name: string, until: number | null): void {
    this.#database.run('dropHoldOfKey', name)
    if (until !== null) this.#database.run('holdKey', name, until)
    this.#changed(tx, name)
  }

  #changed(tx: Tx, name: string): void {
    if (isOfGroup(name)) {
      const type = typeOfGroupLimit(name)
      this.#database.run('ringAllFreed', type)
      tx.touchedTypes.add(type)
      return
    }
    tx.freedLimits.add(name)
    if (!isOfEachKey(name)) return
    const prefix = name.slice(0, -1)
    for (const row of this.#database.all('blockedBetween', prefix, behind(prefix)))
      tx.freedLimits.add(row.name as string)
  }

  #isAnyBlocked(): boolean {
    if (this.#mayBlock) this.#mayBlock = this.#database.get('anyBlocked') !== undefined
    return this.#mayBlock
  }

  #open(tx: Tx): void {
    if (this.nextOpenAt() > tx.now) return
    for (const { name } of this.#database.all('endLimitWaits', tx.now)) tx.freedLimits.add(name as string)
    this.#opensAt = null
  }

  #waitUntil(name: string, until: number): void {
    this.#database.run('waitForLimit', name, until)
    if (this.#opensAt !== null) this.#opensAt = Math.min(this.#opensAt, until)
  }

  #wake(tx: Tx, name: string): boolean {
    const types = this.#database.all('blockedTypes', name)
    if (types.length === 0) return false
    const room = this.room(name, tx.now)
    let woken = false
    let least = Number.POSITIVE_INFINITY
    for (const { type } of types) {
      const lanes = this.#fitting(name, type as string, room)
      for (const { priority, task_group } of lanes) this.#database.run('ringUnblock', type!, priority!, task_group!)
      if (lanes.length > 0) {
        woken = true
        tx.touchedTypes.add(type as string)
      }
      const next = this.#database.get('leastNeed', name, type!)
      if (next) least = Math.min(least, next.need as number)
    }
    const until = least < Number.POSITIVE_INFINITY ? this.opensAt(name, least, tx.now) : null
    if (until !== null) this.#waitUntil(name, until)
    return woken
  }

  /** The lanes of a type to wake: as many as the room has units for. If the first ones need more, the least need. */
  #fitting(name: string, type: string, room: number): Row[] {
    if (room <= 0) return []
    let left = room
    const fitting: Row[] = []
    for (const row of this.#database.each('blockedLanes', name, type, LANES_MAX)) {
      if ((row.need as number) > left) continue
      fitting.push(row)
      left -= row.need as number
      if (left <= 0) break
    }
    if (fitting.length > 0) return fitting
    const least = this.#database.get('leastNeed', name, type)
    return least && (least.need as number) <= room ? [least] : []
  }

  #isInUse(name: string): boolean {
    if (isOfGroup(name)) return false
    const covers = (used: string) => used === name || (familyOf(used) === name && !this.#record(used))
    const isCovered = ({ lane }: Row) => limitsOfLane(lane as string).some(covers)
    if (this.#inUse.limits().some(covers) || this.#database.all('lanesNotReady').some(isCovered)) return true
    const lanes = this.#database.all('lanesWithReady', -1).filter(isCovered)
    return lanes.some(({ type, lane }) => this.#database.get('readyInLane', type!, lane!, 1)!.n === 1)
  }

  #holders(name: string): LimitHolder[] {
    const holders: LimitHolder[] = []
    for (const row of this.#database.each('holdersByAge')) {
      const uses = usesOf(row.uses)
      if (!Object.hasOwn(uses, name)) continue
      holders.push(holderOf(row, uses[name]!))
      if (holders.length === HOLDERS_MAX) break
    }
    return holders
  }

  #waiters(name: string): string[] {
    const waiters: string[] = []
    for (const { type, lane } of this.#database.all('lanesWithReady', LANES_READ_MAX)) {
      if (waiters.length >= WAITERS_MAX) break
      if (!limitsOfLane(lane as string).includes(name)) continue
      const rows = this.#database.all('readyOfLane', type!, lane!, WAITERS_MAX - waiters.length)
      waiters.push(...rows.map(({ id }) => id as string))
    }
    return waiters
  }

  #waitingByLimit(): Map<string, number> {
    const waiting = new Map<string, number>()
    for (const { type, lane } of this.#database.all('lanesWithReady', LANES_READ_MAX)) {
      const n = this.#database.get('readyInLane', type!, lane!, WAITING_MAX)!.n as number
      for (const name of limitsOfLane(lane as string)) waiting.set(name, (waiting.get(name) ?? 0) + n)
    }
    return waiting
  }
}

const isArray = Array.isArray as (value: unknown) => value is readonly string[]

/** The end of the names that begin with a text with `/` at its end, which 0 follows in the order of texts. */
function behind(prefix: string): string {
  return `${prefix.slice(0, -1)}0`
}

function isOnlyHold({ paused, heldUntil, ...change }: LimitChange): boolean {
  return heldUntil !== undefined && paused === undefined && !createsLimit(change)
}

function recordOf(row: Row): LimitRecord {
  const rate: Rate | null =
    row.rate_max === null ? null : { max: row.rate_max as number, perMs: row.rate_per_ms as number }
  return {
    max: row.max as number | null,
    rate,
    paused: row.paused === 1,
    heldUntil: row.held_until as number | null,
    setByOperator: { max: row.max_source === OPERATOR, rate: row.rate_source === OPERATOR },
  }
}

function holderOf(row: Row, units: number): LimitHolder {
  return {
    taskId: row.id as string,
    type: row.type as string,
    workerId: row.worker_id as string,
    since: row.started_at as number,
    expiresAt: row.expires_at as number,
    group: groupOf(row.task_group),
    units,
  }
}
