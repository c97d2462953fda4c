import { TASK_LIMITS, type Task } from '../../task/task.ts'
import type { Row, Store } from './store.ts'

const PRIORITY_ABOVE_ALL = TASK_LIMITS.priorityMax + 1
const GONE: Row = { served: 0, since: 0, since_seq: 0 }
/** Groups that an explanation looks at. */
const BESIDE_MAX = 10_000

/** The task as the ring sees it. */
export interface Ready {
  type: string
  priority: number
  /** '' for none. */
  group: string
  runAt: number
  seq: number
}

/** A group in a plan: `take` gives its next ready tasks, fewer than asked for when it can serve no more. */
interface SqliteUrl {
  /** `served`, `since` and `since_seq`. */
  turn: Row
  take: (count: number) => Row[]
}

/**
 * Whose turn it is among the groups of a type and priority: the group that was served longest ago. A group is in the
 * ring's table from its first ready task on, and set aside when it has nothing ready or its limit is reached; it comes
 * back when a task of it becomes ready or a permit of it comes free. So a claim looks only at groups that it can serve,
 * however many wait, and a type without groups pays for nothing.
 *
 * A row that says "ready" may be out of date (a cancel says nothing here): it is set right when its turn comes. The
 * opposite never holds: what can be served says so.
 */
export class GroupScheduler {
  readonly #store: Store
  /** Whether the table has a row of the type; asked once, and again when another process may have written. */
  readonly #inUse = new Map<string, boolean>()

  constructor(store: Store) {
    this.#store = store
  }

  forget(): void {
    this.#inUse.clear()
  }

  /** Whether a group of the type may have something to serve. */
  mayServe(type: string): boolean {
    return this.#isInUse(type) && this.#store.get('ringReady', type) !== undefined
  }

  /** A task became ready. */
  join({ type, priority, group, runAt, seq }: Ready): void {
    if (group === '') return
    this.#store.run('ringJoin', type, priority, group, runAt, seq)
    this.#inUse.set(type, true)
  }

  /** A permit of the group came free. */
  freed(type: string, group: string): void {
    if (group !== '') this.#store.run('ringFreed', type, group)
  }

  /** The limit of the type's groups has changed. */
  limitChanged(type: string): void {
    this.#store.run('ringAllFreed', type)
  }

  /** The ready tasks of a type that run next, in order. Changes no turn: see `served`. */
  next(type: string, want: number, limit: number | null): Row[] {
    const alone = this.#store.all('heads', type, want)
    if (!this.mayServe(type)) return alone
    const planned: Row[] = []
    const permits = new Map<string, number>()
    let below = PRIORITY_ABOVE_ALL
    while (planned.length < want) {
      const priority = Math.max(
        (this.#store.get('ringPriority', type, below)!.priority as number | null) ?? -1,
        (alone.find((row) => (row.priority as number) < below)?.priority as number | undefined) ?? -1,
      )
      if (priority < 0) break
      below = priority
      const more = want - planned.length
      const places = this.#groups(type, priority, more, limit, permits)
      const ofNone = alone.filter((row) => row.priority === priority)
      if (ofNone.length > 0) {
        const turn = this.#placeOfNone(type, priority, ofNone[0]!)
        places.push({ turn, take: (count) => ofNone.splice(0, count) })
      }
      places.sort((a, b) => byTurn(a.turn, b.turn))
      planned.push(...takeTurns(places, more))
    }
    return planned
  }

  /** The ready tasks of a type in these groups alone, group by group, and by priority over all. */
  nextOf(groups: readonly string[], type: string, want: number, limit: number | null): Row[] {
    const heads = groups.flatMap((group) => {
      const free = limit === null ? want : limit - this.#store.all('holdersInGroup', type, group).length
      return free > 0 ? this.#store.all('headsOfGroup', type, group, Math.min(want, free)) : []
    })
    return heads.sort((a, b) => (b.priority as number) - (a.priority as number)).slice(0, want)
  }

  /** Tasks were started, in this order: their groups go to the end of the ring. */
  served(tasks: readonly Task[], limitOf: (type: string) => number | null): void {
    const last = new Map<string, Task>()
    for (const task of tasks) {
      if (!this.#isInUse(task.type)) continue
      const place = `${task.type} ${task.priority} ${task.group ?? ''}`
      last.delete(place)
      last.set(place, task)
    }
    if (last.size === 0) return
    const served = [...last.values()].map(({ type, priority, group }) => [type, priority, group ?? '', limitOf(type)])
    this.#store.run('ringServed', JSON.stringify(served))
  }

  /** Removes up to `max` groups that have nothing ready; returns how many. */
  drop(max: number): number {
    const dropped = this.#store.run('ringDropEmpty', max)
    if (dropped > 0) this.#store.run('ringDropAlone')
    this.#inUse.clear()
    return dropped
  }

  /** How many ready tasks go before one as the turns stand, counted to a bound. Those of full groups do not. */
  ahead({ type, priority, group, runAt, seq }: Ready, max: number): number {
    const count = (statement: string, ...values: (string | number)[]) =>
      this.#store.get(statement, ...values)!.n as number
    const before =
      group === ''
        ? count('aloneBefore', type, priority, runAt, seq, max)
        : count('groupBefore', type, priority, group, runAt, seq, max)
    let ahead = before + count('aloneAbove', type, priority, max)
    if (!this.#isInUse(type)) return Math.min(ahead, max)
    ahead += count('groupsAbove', type, priority, max)
    // Each of the others has as many turns before it as its own group, and one more if it comes first.
    const others = this.#store.all('groupsBeside', type, priority, group, before + 1, BESIDE_MAX)
    const first = this.#store.get('aloneFirst', type, priority)
    const ofNone = first && this.#placeOfNone(type, priority, first)
    // Another process may have taken the task since it was read.
    const mine = (group === '' ? ofNone : this.#store.get('ringPlace', type, priority, group)) ?? GONE
    if (group !== '' && ofNone) {
      const n = count('aloneBefore', type, priority, Number.MAX_SAFE_INTEGER, 0, before + 1)
      others.push({ ...ofNone, n })
    }
    for (const other of others) ahead += Math.min(other.n as number, byTurn(other, mine) < 0 ? before + 1 : before)
    return Math.min(ahead, max)
  }

  /** The groups of a priority whose turn is next; sets those aside that turn out to have nothing to serve. */
  #groups(
    type: string,
    priority: number,
    want: number,
    limit: number | null,
    permits: Map<string, number>,
  ): SqliteUrl[] {
    for (;;) {
      // Those that this plan has filled already still stand among them.
      const rows = this.#store.all('ringNext', Number(limit !== null), type, priority, want + permits.size)
      if (rows.filter((row) => this.#setRight(type, priority, row, limit)).length > 0) continue
      return rows.map((row) => {
        const group = row.task_group as string
        const first: Row = { seq: row.first_seq!, priority, run_at: row.first_run_at! }
        let after: Row | null = null
        const take = (count: number) => {
          const free = limit === null ? count : (permits.get(group) ?? limit - (row.in_flight as number))
          const most = Math.min(count, free)
          // The first one is known; most groups have one each at a claim.
          const heads = after === null && most > 0 ? [first] : []
          const last = heads[0] ?? after
          if (last && most > heads.length) {
            const more = most - heads.length
            heads.push(...this.#store.all('headsInGroup', type, priority, group, last.run_at!, last.seq!, more))
          }
          after = heads.at(-1) ?? after
          if (limit !== null) permits.set(group, free - heads.length)
          return heads
        }
        return { turn: row, take }
      })
    }
  }

  /** Whether a group's row was out of date. Goes by what is stored alone: a plan may come to nothing. */
  #setRight(type: string, priority: number, row: Row, limit: number | null): boolean {
    const { task_group: group, first_seq, first_run_at, in_flight } = row
    if (first_seq === null || (limit !== null && (in_flight as number) >= limit)) {
      this.#store.run('ringAside', first_seq === null ? 'empty' : 'full', type, priority, group!)
      return true
    }
    if (row.served !== 0 || (row.since === first_run_at && row.since_seq === first_seq)) return false
    this.#store.run('ringSince', first_run_at!, first_seq!, type, priority, group!)
    return true
  }

  /** Where the tasks without a group stand, of which the first is given. */
  #placeOfNone(type: string, priority: number, { run_at, seq }: Row): Row {
    const served = this.#store.get('ringPlace', type, priority, '')?.served ?? 0
    return { served, since: run_at!, since_seq: seq! }
  }

  #isInUse(type: string): boolean {
    let inUse = this.#inUse.get(type)
    if (inUse === undefined) {
      inUse = this.#store.get('ringInUse', type) !== undefined
      this.#inUse.set(type, inUse)
    }
    return inUse
  }
}

/** One task of each in turn, again and again, until enough or nothing is left. */
function takeTurns(places: SqliteUrl[], want: number): Row[] {
  const taken: Row[] = []
  let serving = places
  while (taken.length < want && serving.length > 0) {
    const rounds = Math.ceil((want - taken.length) / serving.length)
    const served = serving.map(({ take }) => take(rounds))
    for (let round = 0; round < rounds; round++) taken.push(...served.flatMap((rows) => rows.slice(round, round + 1)))
    serving = serving.filter((_, index) => served[index]!.length === rounds)
  }
  return taken.slice(0, want)
}

/** Served longest ago first; of those never served, the one that has something ready for longest. */
function byTurn(a: Row, b: Row): number {
  for (const key of ['served', 'since', 'since_seq']) {
    const order = (a[key] as number) - (b[key] as number)
    if (order !== 0) return order
  }
  return 0
}
