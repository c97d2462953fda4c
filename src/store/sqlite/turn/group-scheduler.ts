import { TASK_LIMITS, type Task } from '../../../task/task.ts'
import type { Database, Row } from '../database/database.ts'

const PRIORITY_ABOVE_ALL = TASK_LIMITS.priorityMax + 1
const GONE: Row = { served: 0, since: 0, since_seq: 0 }
/** Maximum number of groups that an explanation reads. */
const BESIDE_MAX = 10_000

/** A ready task, as the rotation needs it. */
export interface Ready {
  type: string
  priority: number
  /** '' for none. */
  group: string
  runAt: number
  seq: number
}

/** A group in a plan: `take` returns its next ready tasks, fewer than requested if it can serve no more. */
interface PlannedGroup {
  /** `served`, `since` and `since_seq`. */
  turn: Row
  take: (count: number) => Row[]
}

/** Whether a type has rows in the rotation's table, and whether it has lone tasks. */
interface InUse {
  ring: boolean
  lone: boolean
}

/**
 * The rotation of the groups of a type and priority: the next turn belongs to the group that was served longest ago. A
 * group with a ready task has a row in the rotation's table. It is set aside when it has nothing ready or its limit is
 * reached, and returns when one of its tasks becomes ready or one of its permits becomes free. So a claim reads only
 * groups that it can serve, regardless of how many wait, and a type without groups has no cost.
 *
 * The only ready task of a group that has no row gets none: it is marked as lone, and an index finds it by its age. The
 * position at which its group is served is stored only while the type has rows, because it matters only to them.
 *
 * A row that says "ready" may be out of date (a cancel does not update it): it is corrected at its turn. The opposite
 * never occurs: every group that can be served has a row that says so, or a lone task.
 */
export class GroupScheduler {
  readonly #database: Database
  /** By type; queried once, and again when another process may have written. May name what is gone. */
  readonly #inUse = new Map<string, InUse>()

  constructor(database: Database) {
    this.#database = database
  }

  forget(): void {
    this.#inUse.clear()
  }

  /** Whether a group of the type may have something to serve. */
  mayServe(type: string): boolean {
    const { lone, ring } = this.#inUseOf(type)
    if (ring && this.#database.get('ringReady', type) !== undefined) return true
    return lone && this.#database.get('loneReady', type) !== undefined
  }

  /**
   * Whether a task that becomes ready is lone: marked by the caller, it is in the rotation. Otherwise, `join` follows.
   *
   * @param seq of the task if it is stored as ready already
   */
  isLone(type: string, priority: number, group: string, seq = 0): boolean {
    const inUse = this.#inUseOf(type)
    if (inUse.ring && this.#database.get('ringPlace', type, priority, group)) return false
    const other = this.#database.get('readyInGroup', type, priority, group, seq)
    if (!other) {
      inUse.lone = true
      return true
    }
    this.#database.run('setLone', 0, other.seq!)
    this.join(type, priority, group, other.run_at as number, other.seq as number)
    return false
  }

  join(type: string, priority: number, group: string, runAt: number, seq: number): void {
    this.#database.run('ringJoin', type, priority, group, runAt, seq)
    this.#inUseOf(type).ring = true
  }

  /** A stored task became ready. */
  becameReady({ type, priority, group, runAt, seq }: Ready): void {
    if (group === '') return
    if (this.isLone(type, priority, group, seq)) this.#database.run('setLone', 1, seq)
    else this.join(type, priority, group, runAt, seq)
  }

  /** A permit of the group became free. */
  freed(type: string, group: string): void {
    if (group !== '') this.#database.run('ringFreed', type, group)
  }

  /** The limit of the type's groups has changed. */
  limitChanged(type: string): void {
    this.#database.run('ringAllFreed', type)
  }

  /** The ready tasks of a type that run next, in order. Changes no turn: see `served`. */
  next(type: string, want: number, limit: number | null): Row[] {
    const alone = this.#database.all('heads', type, want)
    const { lone, ring } = this.#inUseOf(type)
    const hasRows = ring && this.#database.get('ringReady', type) !== undefined
    if (!hasRows) {
      if (!lone) return alone
      // Of groups that were never served, the task decides that is ready for longest.
      if (alone.length === 0 && limit === null) return this.#database.all('loneHeads', type, want)
    }
    const planned: Row[] = []
    const permits = new Map<string, number>()
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
      const groups = this.#groups(type, priority, more, limit, permits)
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
  nextOf(groups: readonly string[], type: string, want: number, limit: number | null): Row[] {
    const heads = groups.flatMap((group) => {
      const free = limit === null ? want : limit - this.#database.all('holdersInGroup', type, group).length
      return free > 0 ? this.#database.all('headsOfGroup', type, group, Math.min(want, free)) : []
    })
    return heads.sort((a, b) => (b.priority as number) - (a.priority as number)).slice(0, want)
  }

  /** Tasks were started, in this order: their groups move to the end of the rotation. */
  served(tasks: readonly Task[], limitOf: (type: string) => number | null): void {
    const last = new Map<string, Task>()
    for (const task of tasks) {
      const inUse = this.#inUseOf(task.type)
      if (!inUse.ring && (task.group !== null || !inUse.lone)) continue
      inUse.ring = true
      const key = `${task.type} ${task.priority} ${task.group ?? ''}`
      last.delete(key)
      last.set(key, task)
    }
    if (last.size === 0) return
    const served = [...last.values()].map(({ type, priority, group }) => [type, priority, group ?? '', limitOf(type)])
    this.#database.run('ringServed', JSON.stringify(served))
  }

  /** Removes up to `max` groups that have nothing ready; returns how many. */
  drop(max: number): number {
    const dropped = this.#database.run('ringDropEmpty', max)
    this.#database.run('ringDropAlone')
    this.#inUse.clear()
    return dropped
  }

  /**
   * The number of ready tasks that run before this one in the present rotation, counted up to `max`. Tasks of groups at
   * their limit are not counted.
   */
  ahead({ type, priority, group, runAt, seq }: Ready, max: number): number {
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

  /** The groups of a priority that have the next turns; sets aside those that prove to have nothing to serve. */
  #groups(
    type: string,
    priority: number,
    want: number,
    limit: number | null,
    permits: Map<string, number>,
  ): PlannedGroup[] {
    for (;;) {
      // The queries still return groups that this plan has already filled.
      const values = [Number(limit !== null), type, priority, want + permits.size]
      const { lone, ring } = this.#inUseOf(type)
      const rows = ring ? this.#database.all('ringNext', ...values) : []
      const lones = lone ? this.#database.all('loneNext', ...values) : []
      const corrected = [
        ...rows.filter((row) => this.#setRight(type, priority, row, limit)),
        ...lones.filter((row) => this.#setAside(type, priority, row, limit)),
      ]
      if (corrected.length > 0) continue
      return [...rows, ...lones].map((row) => {
        const group = row.task_group as string
        const first: Row = { seq: row.first_seq!, priority, run_at: row.first_run_at! }
        let after: Row | null = null
        const take = (count: number) => {
          const free = limit === null ? count : (permits.get(group) ?? limit - (row.in_flight as number))
          const most = Math.min(count, free)
          // The first task is known, and at most claims most groups have one task each.
          const heads = after === null && most > 0 ? [first] : []
          const last = heads[0] ?? after
          if (last && most > heads.length) {
            const more = most - heads.length
            heads.push(...this.#database.all('headsInGroup', type, priority, group, last.run_at!, last.seq!, more))
          }
          after = heads.at(-1) ?? after
          if (limit !== null) permits.set(group, free - heads.length)
          return heads
        }
        return { turn: row, take }
      })
    }
  }

  /**
   * Corrects a group's row if it was out of date, and returns whether it was. Reads only stored data, because a plan
   * may change nothing.
   */
  #setRight(type: string, priority: number, row: Row, limit: number | null): boolean {
    const { task_group: group, first_seq, first_run_at, in_flight } = row
    if (first_seq === null || (limit !== null && (in_flight as number) >= limit)) {
      this.#database.run('ringAside', first_seq === null ? 'empty' : 'full', type, priority, group!)
      return true
    }
    if (row.served !== 0 || (row.since === first_run_at && row.since_seq === first_seq)) return false
    this.#database.run('ringSince', first_run_at!, first_seq!, type, priority, group!)
    return true
  }

  /** Moves a lone task whose group is at its limit to the rotation's table, and returns whether it was. */
  #setAside(type: string, priority: number, row: Row, limit: number | null): boolean {
    if (limit === null || (row.in_flight as number) < limit) return false
    this.#database.run('setLone', 0, row.first_seq!)
    this.join(type, priority, row.task_group as string, row.first_run_at as number, row.first_seq as number)
    this.#database.run('ringAside', 'full', type, priority, row.task_group!)
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

/** Takes one task of each group in turn, repeatedly, until enough or nothing is left. */
function takeTurns(groups: PlannedGroup[], want: number): Row[] {
  const taken: Row[] = []
  let serving = groups
  while (taken.length < want && serving.length > 0) {
    const rounds = Math.ceil((want - taken.length) / serving.length)
    const served = serving.map(({ take }) => take(rounds))
    for (let round = 0; round < rounds; round++) taken.push(...served.flatMap((rows) => rows.slice(round, round + 1)))
    serving = serving.filter((_, index) => served[index]!.length === rounds)
  }
  return taken.slice(0, want)
}

/** The group served longest ago first; of those never served, the one that has had a ready task for longest. */
function byTurn(a: Row, b: Row): number {
  for (const key of ['served', 'since', 'since_seq']) {
    const order = (a[key] as number) - (b[key] as number)
    if (order !== 0) return order
  }
  return 0
}

export function readyOf(row: Row): Ready {
  return {
    type: row.type as string,
    priority: row.priority as number,
    group: row.task_group as string,
    runAt: row.run_at as number,
    seq: row.seq as number,
  }
}
