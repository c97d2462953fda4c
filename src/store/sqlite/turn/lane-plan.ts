import { groupOfLane, limitsOfLane } from '../../../task/uses.ts'
import type { Row } from '../database/database.ts'
import type { GroupLimit } from '../limits/limits.ts'
import type { Rooms } from '../limits/rooms.ts'
import { usesOf } from '../records/rows.ts'

/** What the rotation plans with: the lanes of a type that may be served, and what they have taken so far. */

/** What a plan of a type has to keep to, and what it has planned so far. */
export interface Plan {
  type: string
  limit: GroupLimit
  rooms: Rooms
  /** Permits that are left, by group. */
  permits: Map<string, number>
  /** Lanes whose first task has its units in `rooms`, by priority and name; the other sets too. */
  reserved: Set<string>
  /** Lanes that count on a permit of their group, and by group, how many of them have not taken it yet. */
  counting: Set<string>
  expected: Map<string, number>
  /** Lanes whose group may need all of its permits for lanes that come before. */
  skipped: Set<string>
}

/** A lane in a plan: `take` returns its next ready tasks, fewer than requested if it can serve no more. */
export interface PlannedGroup {
  /** `served`, `since` and `since_seq`. */
  turn: Row
  take: (count: number) => Row[]
}

/** Whether lanes of the same group that come before may need all of its permits; then more lanes must be read. */
export function isOneTooMany(plan: Plan, priority: number, row: Row): boolean {
  const { limit, rooms, permits, counting, expected, skipped } = plan
  const lane = row.task_group as string
  const group = groupOfLane(lane)
  const most = limit.of(group)
  const place = `${priority} ${lane}`
  if (most === null || counting.has(place) || skipped.has(place)) return false
  const before = expected.get(group) ?? 0
  if ((permits.get(group) ?? most - (row.in_flight as number)) - before <= 0) {
    skipped.add(place)
    // It does not take what its limits have left, so other lanes may.
    rooms.check(limitsOfLane(lane))
    return true
  }
  counting.add(place)
  expected.set(group, before + 1)
  return false
}

/** How many of the next tasks of a lane have room, one after the other; takes their units. */
export function takeFitting(rooms: Rooms, heads: readonly Row[]): number {
  for (let from = 0; from < heads.length; ) {
    const { uses } = heads[from]!
    let to = from + 1
    while (to < heads.length && heads[to]!.uses === uses) to++
    const fitting = uses === null ? to - from : rooms.takeMany(usesOf(uses), to - from)
    if (fitting < to - from) return from + fitting
    from = to
  }
  return heads.length
}

/** Takes one task of each group in turn, repeatedly, until enough or nothing is left. */
export function takeTurns(groups: PlannedGroup[], want: number): Row[] {
  if (groups.length === 1) return groups[0]!.take(want)
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
export function byTurn(a: Row, b: Row): number {
  for (const key of ['served', 'since', 'since_seq']) {
    const order = (a[key] as number) - (b[key] as number)
    if (order !== 0) return order
  }
  return 0
}
