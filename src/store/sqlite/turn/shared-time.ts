import { groupOfLane } from '../../../task/uses.ts'
import type { Database } from '../database/database.ts'

/** A lane of a type and priority. */
export interface Lane {
  type: string
  priority: number
  lane: string
}

/**
 * The positions of lanes in types whose groups share running time. A lane's position is the time in milliseconds that
 * it has used: at a start it grows by the mean of its recent running times, and at the end of the attempt the time
 * that it ran takes the place of that mean. The lane with the lowest position has the next turn.
 *
 * The clock is the position of the lane that started last. A lane that returns after it had nothing ready begins there,
 * so it has no credit from that time; if it has used more, it waits for the others. Between two lanes that always have
 * ready tasks, the times differ by no more than their tasks in flight run.
 */
export class SharedTime {
  readonly #database: Database
  /** Whether the groups of a type share running time. */
  readonly isOf: (type: string) => boolean

  constructor(database: Database, isOf: (type: string) => boolean) {
    this.#database = database
    this.isOf = isOf
  }

  /** The positions after these numbers of starts, of those lanes whose types share running time. */
  positions<L extends Lane & { starts: number }>(lanes: readonly L[]): Map<L, number> {
    const timed = lanes.filter(({ type }) => this.isOf(type))
    const together = Map.groupBy(timed, ({ type, priority }) => `${type} ${priority}`)
    return new Map([...together.values()].flatMap((some) => this.#positionsOf(some)))
  }

  /** Of lanes of one type and priority, in their order. */
  #positionsOf<L extends Lane & { starts: number }>(lanes: readonly L[]): (readonly [L, number])[] {
    const first = lanes[0]!
    const clock = this.#clock(first)
    const froms = lanes.map(({ type, priority, lane, starts }) => {
      const { served = 0, pace = null } = this.#database.get('laneTime', type, priority, lane) ?? {}
      // Tasks without a group never join the rotation. A lane that was never served has position 0.
      const from = served === 0 || lane === '' ? Math.max(served as number, clock.at) : (served as number)
      const expected = Math.max(1, Math.round((pace as number | null) ?? clock.pace))
      return { from, position: from + starts * expected }
    })
    this.#database.run('advanceClock', first.type, first.priority, froms[0]!.from)
    return froms.map(({ position }, index) => [lanes[index]!, position] as const)
  }

  /** An attempt of a lane has ended. */
  ended(lane: Lane & { startedAt: number | null }, now: number): void {
    const { type, priority, lane: name } = lane
    if (!this.isOf(type)) return
    const ran = Math.max(1, now - lane.startedAt!)
    const { at, pace } = this.#clock(lane)
    this.#database.run('addTime', type, priority, name, ran, pace, at)
    this.#database.run('addTimeBeside', type, priority, name, ran, groupOfLane(name))
    this.#database.run('addPace', type, priority, ran)
  }

  /** The groups of a type share something else from now on. */
  changed(type: string): void {
    this.#database.run('dropClocksOf', type)
    if (!this.isOf(type)) return
    this.#database.run('loneJoin', type)
    this.#database.run('loneEnd', type)
  }

  forgetIdle(): void {
    this.#database.run('dropClocksIdle')
  }

  #clock({ type, priority }: Omit<Lane, 'lane'>): { at: number; pace: number } {
    const { at = 0, pace = null } = this.#database.get('turnClock', type, priority) ?? {}
    return { at: at as number, pace: (pace as number | null) ?? 1 }
  }
}
