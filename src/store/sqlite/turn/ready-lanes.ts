/** A place in the order of a lane. */
interface Place {
  type: string
  priority: number
  runAt: number
  seq: number
}

const LANES_MAX = 1_000

/**
 * Lanes whose rows in the rotation's table say that they are ready, each with the task that was last written there: a
 * later one changes nothing. A lane is dropped when its row is set aside or served.
 */
export class ReadyLanes {
  readonly #places = new Map<string, Place>()

  covers(type: string, priority: number, lane: string, runAt: number, seq: number): boolean {
    const place = this.#places.get(lane)
    if (place === undefined || place.type !== type || place.priority !== priority) return false
    return place.runAt < runAt || (place.runAt === runAt && place.seq <= seq)
  }

  add(type: string, priority: number, lane: string, runAt: number, seq: number): void {
    if (this.#places.size >= LANES_MAX) this.#places.clear()
    this.#places.set(lane, { type, priority, runAt, seq })
  }

  drop(lane: string): void {
    this.#places.delete(lane)
  }

  clear(): void {
    this.#places.clear()
  }
}
