import type { Task } from '../../../task/task.ts'
import { groupOfLane, laneOf, limitsOfLane, NO_USES, usesLimits } from '../../../task/uses.ts'
import type { Database, Row } from '../database/database.ts'
import type { GroupLimit, Limits } from '../limits/limits.ts'
import type { Rooms } from '../limits/rooms.ts'
import { usesOf } from '../records/rows.ts'
import { nextOfGroups, PRIORITY_ABOVE_ALL } from './groups-named.ts'
import { byTurn, isOneTooMany, type Plan, type PlannedGroup, takeFitting, takeTurns } from './lane-plan.ts'
import { ReadyLanes } from './ready-lanes.ts'
import type { Lane, SharedTime } from './shared-time.ts'

const GONE: Row = { served: 0, since: 0, since_seq: 0 }
/** Maximum number of groups that an explanation reads. */
const BESIDE_MAX = 10_000
/** Maximum number of lanes that are counted one by one. */
const LANES_COUNTED_MAX = 1_000

/** A ready task, as the rotation needs it. */
export interface Ready {
  type: string
  priority: number
  /** Its group and the limits that it uses; '' for none. */
  lane: string
  runAt: number
  seq: number
}

/** A lane whose tasks have started. */
interface Served extends Lane {
  starts: number
  group: string
}

/** Whether a type has rows in the rotation's table, and whether it has lone tasks. */
interface InUse {
  ring: boolean
  lone: boolean
}

/**
 * The rotation of the lanes of a type and priority: the next turn belongs to the lane that was served longest ago. A
 * lane has the tasks of one group that use the same limits; for tasks without limits it is the group. A lane with a
 * ready task has a row in the rotation's table. It is set aside when it has nothing ready, the limit of its group is
 * reached, or its next task needs more of a limit than is left, and returns when one of its tasks becomes ready or a
 * permit in its way becomes free. So a claim reads only lanes that it can serve, regardless of how many wait, and a
 * type without groups and limits has no cost.
 *
 * The only ready task of a group that has no row gets none: it is marked as lone, and an index finds it by its age. The
 * position at which its group is served is stored only while the type has rows, because it matters only to them.
 *
 * A row that says "ready" may be out of date (a cancel does not update it): it is corrected at its turn. The opposite
 * never occurs: every group that can be served has a row that says so, or a lone task.
 */
export class GroupScheduler {
  readonly #database: Database
  readonly #limits: Limits
  readonly #time: SharedTime
  /** By type; queried once, and again when another process may have written. May name what is gone. */
  readonly #inUse = new Map<string, InUse>()
  readonly #ready = new ReadyLanes()

  constructor(database: Database, limits: Limits, time: SharedTime) {
    this.#database = database
    this.#limits = limits
    this.#time = time
  }

  forget(): void {
    this.#inUse.clear()
    this.#ready.clear()
  }

  /** Whether a group of the type may have something to serve. */
  mayServe(type: string): boolean {
    const { lone, ring } = this.#inUseOf(type)
    if (ring && this.#database.get('ringReady', type) !== undefined) return true
    return lone && this.#database.get('loneReady', type) !== undefined
  }

  /**
   * Whether a task that becomes ready is lone: marked by the caller, it is in the rotation. Otherwise, `join` follows.
   * A task that uses limits, or whose type shares running time, never is.
   *
   * @param seq of the task if it is stored as ready already
   */
  isLone(type: string, priority: number, lane: string, seq = 0): boolean {
    if (usesLimits(lane) || this.#time.isOf(type)) return false
    const inUse = this.#inUseOf(type)
    if (inUse.ring && this.#database.get('ringPlace', type, priority, lane)) return false
    const other = this.#database.get('readyInGroup', type, priority, lane, seq)
    if (!other) {
      inUse.lone = true
      return true
    }
    this.#database.run('setLone', 0, other.seq!)
    this.join(type, priority, lane, other.run_at as number, other.seq as number)
    return false
  }

  join(type: string, priority: number, lane: string, runAt: number, seq: number): void {
    if (this.#ready.covers(type, priority, lane, runAt, seq)) return
    this.#database.run('ringJoin', type, priority, lane, runAt, seq)
    this.#inUseOf(type).ring = true
    this.#ready.add(type, priority, lane, runAt, seq)
  }

  /** A stored task became ready. */
  becameReady({ type, priority, lane, runAt, seq }: Ready): void {
    if (lane === '') return
    if (this.isLone(type, priority, lane, seq)) this.#database.run('setLone', 1, seq)
    else this.join(type, priority, lane, runAt, seq)
  }

  /** A ready task ended without a start: if a limit blocks its lane, the next task may need less. */
  left({ type, priority, lane }: Omit<Ready, 'runAt' | 'seq'>): void {
    if (usesLimits(lane)) this.#database.run('ringUnblock', type, priority, lane)
  }

  /** The lease of a task has ended: its running time counts, and a permit of its group became free. */
  freed(task: Lane & { startedAt: number | null }, now: number): void {
    this.#time.ended(task, now)
    const { type, lane } = task
    const group = groupOfLane(lane)
    if (group !== '') this.#database.run('ringFreed', type, group)
  }

  /** The limit of the type's groups has changed. */
  limitChanged(type: string): void {
    this.#database.run('ringAllFreed', type)
  }

  /** The groups of the type share something else. */
  turnsChanged(type: string): void {
    this.#time.changed(type)
    this.#inUse.delete(type)
    this.#ready.clear()
  }

  /** The ready tasks of a type that run next, in order. Changes no turn: see `served`. */
  next(type: string, want: number, limit: GroupLimit, rooms: Rooms): Row[] {
    const alone = this.#database.all('heads', type, want)
    const { lone, ring } = this.#inUseOf(type)
    const hasRows = ring && this.#database.get('ringReady', type) !== undefined
    if (!hasRows) {
      if (!lone) return alone
      // Of groups that were never served, the task decides that is ready for longest.
      if (alone.length === 0 && !limit.isSet) return this.#database.all('loneHeads', type, want)
    }
    const planned: Row[] = []
    const lanes = { reserved: new Set<string>(), counting: new Set<string>(), skipped: new Set<string>() }
    const plan: Plan = { type, limit, rooms, permits: new Map(), expected: new Map(), ...lanes }
    let below = PRIORITY_ABOVE_ALL
    while (planned.length < want) {
      const priority = Math.max(
        hasRows ? this.#highest('ringPriority', type, below) : -1,
        lone ? this.#highest('lonePriority', type, below) : -1,
        (alone.find((row) => (row.priority as number) < below)?.priority as number | undefined) ?? -1,
      )
      if (priority < 0) break
      below = priority
      const more = want - planned.length
      const groups = this.#groups(plan, priority, more)
      const ofNone = alone.filter((row) => row.priority === priority)
      if (ofNone.length > 0) {
        const turn = this.#positionOfNone(type, priority, ofNone[0]!)
        groups.push({ turn, take: (count) => ofNone.splice(0, count) })
      }
      groups.sort((a, b) => byTurn(a.turn, b.turn))
      planned.push(...takeTurns(groups, more))
    }
    return planned
  }

  /** The ready tasks of a type in these groups only, group by group, and by priority over all. */
  nextOf(groups: readonly string[], type: string, want: number, limit: GroupLimit, rooms: Rooms): Row[] {
    return nextOfGroups(this.#database, groups, type, want, limit, rooms)
  }

  /** The number of ready tasks of a type that could start, as `next` would return them, but without changing a row. */
  startable(type: string, most: number, limit: GroupLimit, rooms: Rooms): number {
    const { lone, ring } = this.#inUseOf(type)
    let found = this.#database.get('countAlone', type, most)!.n as number
    if (lone) found += this.#database.get('countLone', type, most)!.n as number
    if (!ring) return Math.min(found, most)
    const permits = new Map<string, number>()
    for (const row of this.#database.each('lanesReady', Number(limit.isSet), type, most, LANES_COUNTED_MAX)) {
      if (found >= most) break
      const group = groupOfLane(row.task_group as string)
      const allowed = limit.of(group)
      const free = allowed === null ? most : (permits.get(group) ?? allowed - (row.in_flight as number))
      // All tasks of the lane count as if they used what its first one does.
      const uses = usesOf(row.first_uses)
      let some = Math.max(0, Math.min(row.n as number, free, most - found))
      if (uses !== NO_USES) for (let left = some; left > 0; left--) if (rooms.take(uses)) some--
      permits.set(group, free - some)
      found += some
    }
    return Math.min(found, most)
  }

  /** Tasks were started, in this order: their groups move to the end of the rotation. */
  served(tasks: readonly Task[], limitOf: (type: string) => GroupLimit): void {
    const lanes = new Map<string, Served>()
    let last: Served | undefined
    for (const { type, priority, group, uses } of tasks) {
      const inUse = this.#inUseOf(type)
      const lane = laneOf(group, uses)
      if (!inUse.ring && (lane !== '' || !inUse.lone)) continue
      inUse.ring = true
      if (last?.lane === lane && last.type === type && last.priority === priority) {
        last.starts++
        continue
      }
      const key = `${type} ${priority} ${lane}`
      const before: Served | undefined = lanes.get(key)
      lanes.delete(key)
      last = { type, priority, lane, starts: (before?.starts ?? 0) + 1, group: group ?? '' }
      lanes.set(key, last)
    }
    if (lanes.size === 0) return
    this.#ready.clear()
    const all = [...lanes.values()]
    const positions = this.#time.positions(all)
    const served = all.map((one) => {
      const { type, priority, lane, group } = one
      return [type, priority, lane, limitOf(type).of(group), group, positions.get(one) ?? null]
    })
    this.#database.run('ringServed', JSON.stringify(served))
  }

  /** Removes up to `max` groups that have nothing ready; returns how many. */
  drop(max: number): number {
    this.#time.forgetIdle()
    this.#ready.clear()
    const dropped = this.#database.run('ringDropEmpty', max)
    this.#database.run('ringDropAlone')
    this.#inUse.clear()
    return dropped
  }

  /**
   * The number of ready tasks that run before this one in the present rotation, counted up to `max`. Tasks of groups at
   * their limit are not counted.
   */
  ahead({ type, priority, lane: group, runAt, seq }: Ready, max: number): number {
    const count = (statement: string, ...values: (string | number)[]) =>
      this.#database.get(statement, ...values)!.n as number
    const before =
      group === ''
        ? count('aloneBefore', type, priority, runAt, seq, max)
        : count('groupBefore', type, priority, group, runAt, seq, max)
    let ahead = before + count('aloneAbove', type, priority, max)
    const { lone, ring } = this.#inUseOf(type)
    if (!lone && !ring) return Math.min(ahead, max)
    ahead += count('groupsAbove', type, priority, max) + count('loneAbove', type, priority, max)
    // Each of the other groups has as many turns before the task as its own group, and one more if it comes first.
    const others = this.#database.all('groupsBeside', type, priority, group, before + 1, BESIDE_MAX)
    const first = this.#database.get('aloneFirst', type, priority)
    const ofNone = first && this.#positionOfNone(type, priority, first)
    // Another process may have taken the task since it was read.
    const asLone = { served: 0, since: runAt, since_seq: seq }
    const mine = (group === '' ? ofNone : (this.#database.get('ringPlace', type, priority, group) ?? asLone)) ?? GONE
    if (group !== '' && ofNone) {
      const n = count('aloneBefore', type, priority, Number.MAX_SAFE_INTEGER, 0, before + 1)
      others.push({ ...ofNone, n })
    }
    const allBefore = before > 0 || (mine.served as number) > 0
    const until = allBefore ? [Number.MAX_SAFE_INTEGER, 0] : [mine.since as number, mine.since_seq as number]
    ahead += count('loneBefore', type, priority, ...until, max)
    for (const other of others) ahead += Math.min(other.n as number, byTurn(other, mine) < 0 ? before + 1 : before)
    return Math.min(ahead, max)
  }

  /** The lanes of a priority that have the next turns; sets aside those that prove to have nothing to serve. */
  #groups(plan: Plan, priority: number, want: number): PlannedGroup[] {
    const { type, limit, permits, skipped } = plan
    for (;;) {
      // The queries still return lanes that this plan has already filled.
      const values = [Number(limit.isSet), type, priority, want + permits.size + skipped.size]
      const { lone, ring } = this.#inUseOf(type)
      const rows = ring ? this.#database.all('ringNext', ...values) : []
      const lones = lone ? this.#database.all('loneNext', ...values) : []
      const corrected = [
        ...rows.filter((row) => this.#setRight(plan, priority, row)),
        ...lones.filter((row) => this.#setAside(type, priority, row, limit) || isOneTooMany(plan, priority, row)),
      ]
      if (corrected.length > 0) continue
      return [...rows, ...lones].map((row) => ({ turn: row, take: this.#takeFrom(plan, priority, row) }))
    }
  }

  /** Returns the next ready tasks of a lane at each call. */
  #takeFrom(
    { type, limit, rooms, permits, reserved, counting, expected }: Plan,
    priority: number,
    row: Row,
  ): PlannedGroup['take'] {
    const lane = row.task_group as string
    const group = groupOfLane(lane)
    const most = limit.of(group)
    const first: Row = { seq: row.first_seq!, priority, run_at: row.first_run_at!, uses: row.first_uses ?? null }
    let after: Row | null = null
    const place = `${priority} ${lane}`
    let isBlocked = first.uses !== null && !reserved.has(place)
    return (count) => {
      const free = most === null ? count : (permits.get(group) ?? most - (row.in_flight as number))
      const wanted = Math.min(count, free)
      // The first task is known, and at most claims most lanes have one task each.
      const heads = after === null && wanted > 0 && !isBlocked ? [first] : []
      const last = heads[0] ?? after
      if (last && wanted > heads.length && !isBlocked) {
        const next = this.#headsAfter(type, priority, lane, last, wanted - heads.length)
        const fitting = takeFitting(rooms, next)
        isBlocked = fitting < next.length
        for (let index = 0; index < fitting; index++) heads.push(next[index]!)
      }
      after = heads.at(-1) ?? after
      if (most !== null) permits.set(group, free - heads.length)
      // From now on `permits` has what it took.
      if (heads[0] === first && counting.has(place)) expected.set(group, expected.get(group)! - 1)
      return heads
    }
  }

  #headsAfter(type: string, priority: number, lane: string, { run_at, seq, uses }: Row, most: number): Row[] {
    const heads = this.#database.all('headsInGroup', type, priority, lane, run_at!, seq!, most, uses ?? null)
    for (const head of heads) if (head.uses === 1) head.uses = uses!
    return heads
  }

  /**
   * Corrects a lane's row if it was out of date, or if a limit blocks it, and returns whether to read again. Reserves
   * the units of its first task.
   */
  #setRight(plan: Plan, priority: number, row: Row): boolean {
    const { type } = plan
    const { task_group: lane, first_seq, first_run_at, in_flight } = row
    const most = plan.limit.of(groupOfLane(lane as string))
    if (first_seq === null || (most !== null && (in_flight as number) >= most)) {
      this.#database.run('ringAside', first_seq === null ? 'empty' : 'full', type, priority, lane!)
      this.#ready.drop(lane as string)
      // It does not take what its limits have left, so other lanes may.
      plan.rooms.check(limitsOfLane(lane as string))
      return true
    }
    if (row.served === 0 && (row.since !== first_run_at || row.since_seq !== first_seq)) {
      this.#database.run('ringSince', first_run_at!, first_seq!, type, priority, lane!)
      this.#ready.drop(lane as string)
      return true
    }
    return isOneTooMany(plan, priority, row) || (usesLimits(lane as string) && this.#isBlocked(plan, priority, row))
  }

  #isBlocked({ type, rooms, reserved, skipped, counting, expected }: Plan, priority: number, row: Row): boolean {
    const lane = row.task_group as string
    row.first_uses = this.#database.get('usesBySeq', row.first_seq!)!.uses!
    const place = `${priority} ${lane}`
    if (reserved.has(place) || skipped.has(place)) return false
    const block = rooms.take(usesOf(row.first_uses))
    if (!block) {
      reserved.add(place)
      return false
    }
    this.#limits.block(type, priority, lane, block)
    this.#ready.drop(lane)
    const group = groupOfLane(lane)
    if (counting.delete(place)) expected.set(group, expected.get(group)! - 1)
    return true
  }

  /** Moves a lone task whose group is at its limit to the rotation's table, and returns whether it was. */
  #setAside(type: string, priority: number, row: Row, limit: GroupLimit): boolean {
    const most = limit.of(row.task_group as string)
    if (most === null || (row.in_flight as number) < most) return false
    this.#database.run('setLone', 0, row.first_seq!)
    this.join(type, priority, row.task_group as string, row.first_run_at as number, row.first_seq as number)
    this.#database.run('ringAside', 'full', type, priority, row.task_group!)
    this.#ready.drop(row.task_group as string)
    return true
  }

  #highest(statement: string, type: string, below: number): number {
    return (this.#database.get(statement, type, below)!.priority as number | null) ?? -1
  }

  /** The position of the tasks without a group, given the first of them. */
  #positionOfNone(type: string, priority: number, { run_at, seq }: Row): Row {
    const served = this.#database.get('ringPlace', type, priority, '')?.served ?? 0
    return { served, since: run_at!, since_seq: seq! }
  }

  #inUseOf(type: string): InUse {
    let inUse = this.#inUse.get(type)
    if (inUse === undefined) {
      const { ring, lone } = this.#database.get('groupsInUse', type)!
      inUse = { ring: ring === 1, lone: lone === 1 }
      this.#inUse.set(type, inUse)
    }
    return inUse
  }
}

export function readyOf(row: Row): Ready {
  return {
    type: row.type as string,
    priority: row.priority as number,
    lane: row.task_group as string,
    runAt: row.run_at as number,
    seq: row.seq as number,
  }
}
