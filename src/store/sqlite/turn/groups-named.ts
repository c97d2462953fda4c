import { TASK_LIMITS } from '../../../task/task.ts'
import type { Database, Row } from '../database/database.ts'
import type { GroupLimit } from '../limits/limits.ts'
import type { Rooms } from '../limits/rooms.ts'
import { usesOf } from '../records/rows.ts'

export const PRIORITY_ABOVE_ALL = TASK_LIMITS.priorityMax + 1

/** A lane of a group that a claim names: the place of the group in its list, the group's permits, the next tasks. */
interface LaneOfGroup {
  lane: string
  place: number
  permits: { free: number }
  heads: Row[]
}

/** The ready tasks of a type in some groups only, group by group, and by priority over all. Changes no row. */
export function nextOfGroups(
  database: Database,
  groups: readonly string[],
  type: string,
  want: number,
  limit: GroupLimit,
  rooms: Rooms,
): Row[] {
  const headsOf = (lane: string, below: number) => database.all('headsOfGroup', type, lane, below, want)
  const lanes = groups.flatMap((group, place): LaneOfGroup[] => {
    const most = limit.of(group)
    const permits = { free: most === null ? want : most - database.all('holdersInGroup', type, group).length }
    if (permits.free <= 0) return []
    const names = [group, ...database.all('lanesOfGroup', type, group).map(({ lane }) => lane as string)]
    return names.map((lane) => ({ lane, place, permits, heads: headsOf(lane, PRIORITY_ABOVE_ALL) }))
  })
  const planned: Row[] = []
  while (planned.length < want) {
    const open = lanes.filter(({ permits, heads }) => permits.free > 0 && heads.length > 0)
    if (open.length === 0) break
    const next = open.reduce((first, other) => (isBefore(other, first) ? other : first))
    const head = next.heads.shift()!
    if (head.uses === null || rooms.take(usesOf(head.uses)) === null) {
      planned.push(head)
      next.permits.free--
    } else {
      // The tasks behind it in this priority wait for it.
      next.heads = headsOf(next.lane, head.priority as number)
    }
  }
  return planned
}

/** Whether the next task of a lane goes before that of another: by priority, group and age. */
function isBefore(a: LaneOfGroup, b: LaneOfGroup): boolean {
  const key = ({ place, heads: [head] }: LaneOfGroup) => [-(head!.priority as number), place, head!.run_at, head!.seq]
  const [ofA, ofB] = [key(a) as number[], key(b) as number[]]
  const at = ofA.findIndex((value, index) => value !== ofB[index])
  return at >= 0 && ofA[at]! < ofB[at]!
}
