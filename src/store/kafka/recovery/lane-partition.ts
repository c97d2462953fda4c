import type { State, TaskLocation } from '../../state.ts'
import type { ReadRecord } from '../client/fetched.ts'
import type { PartitionReader } from '../client/group.ts'
import { type Trouble, troubleAt } from '../client/trouble.ts'

/** Maximum number of records of a partition in the window; reading pauses while the first of them has not ended. */
const WINDOW_MAX = 4_096
/** Tasks that are located at once. */
const LOCATED_MAX = 512
const PAUSE_MS = { least: 100, most: 3_000 } as const

/** A record in the window. A record that is no accepted task has an id that no task has. */
export interface Entry {
  offset: bigint
  id: string
}

/** The actions for accepted tasks that do not simply end. */
export interface LaneCare {
  /**
   * Resolves when all outcomes so far are on their topic: until then only the state has them, and it could lose them.
   * Fails if it may have lost some since that incarnation.
   */
  caughtUp(since: number): Promise<void>
  /** Writes tasks to a topic where they block no other tasks; returns those that the state still has. */
  park(ids: readonly string[]): Promise<ReadonlySet<string>>
  /**
   * Restores tasks that the state should have and does not, and writes records that are no accepted tasks to the dead
   * letters. Returns the offsets that are done: those of the dead letters, and of tasks that had ended and are
   * forgotten by now.
   */
  repair(entries: readonly Entry[]): Promise<ReadonlySet<bigint>>
}

/**
 * Watches the accepted tasks of a partition until they have ended: the offset advances to the first that has not. A
 * task that blocks a full window (it is delayed, or runs, or waits while later ones have ended) is parked, and counts
 * as done here.
 */
export class LanePartition implements PartitionReader {
  readonly #state: State
  readonly #care: LaneCare
  #entries: Entry[] = []
  #next: bigint
  /** The index at which the next check begins. */
  #from = 0
  #timer: NodeJS.Timeout | undefined
  #pauseMs: number = PAUSE_MS.least
  #trouble: Trouble | null = null
  #closed = false

  constructor(state: State, care: LaneCare, from: bigint) {
    this.#state = state
    this.#care = care
    this.#next = from
  }

  get wants(): boolean {
    return this.#span < WINDOW_MAX
  }

  get trouble(): Trouble | null {
    return this.#trouble
  }

  get doneTo(): bigint {
    return this.#entries[0]?.offset ?? this.#next
  }

  take(records: readonly ReadRecord[]): void {
    for (const { offset, key } of records) {
      this.#entries.push({ offset, id: key?.toString() ?? '' })
      this.#next = offset + 1n
    }
    this.#checkIn(PAUSE_MS.least)
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
  }

  /** Records from the first in view to the last. */
  get #span(): number {
    return this.#entries.length === 0 ? 0 : Number(this.#next - this.#entries[0]!.offset)
  }

  #checkIn(ms: number): void {
    if (this.#closed || this.#timer || this.#entries.length === 0) return
    this.#timer = setTimeout(async () => {
      // The state or Kafka may be unavailable: the window is checked again.
      const done = await this.#read().then(
        (count) => {
          this.#trouble = null
          return count
        },
        (error: unknown) => {
          this.#trouble = troubleAt(this.doneTo, error, this.#trouble)
          return 0
        },
      )
      this.#timer = undefined
      this.#pauseMs = done > 0 ? PAUSE_MS.least : Math.min(this.#pauseMs * 2, PAUSE_MS.most)
      this.#checkIn(done >= LOCATED_MAX / 2 ? 0 : this.#pauseMs)
    }, ms)
    this.#timer.unref()
  }

  /** Checks the next records of the window, cyclically, and the first; returns how many are done. */
  async #read(): Promise<number> {
    if (this.#from >= this.#entries.length) this.#from = 0
    const some = this.#entries.slice(this.#from, this.#from + LOCATED_MAX)
    if (this.#from > 0) some.unshift(this.#entries[0]!)
    const since = this.#state.incarnation
    const locations = await this.#state.locate(some.map(({ id }) => id))
    const done = new Set(some.filter((_, index) => locations[index] === 'finished'))
    if (done.size > 0) await this.#care.caughtUp(since)
    for (const entry of await this.#repair(some.filter((_, index) => locations[index] === null))) done.add(entry)
    if (!this.wants) for (const entry of await this.#park(some, locations)) done.add(entry)
    if (done.size > 0) this.#entries = this.#entries.filter((entry) => !done.has(entry))
    this.#from += Math.max(LOCATED_MAX - done.size, 0)
    return done.size
  }

  async #repair(unknown: readonly Entry[]): Promise<Entry[]> {
    if (unknown.length === 0) return []
    const done = await this.#care.repair(unknown)
    return unknown.filter(({ offset }) => done.has(offset))
  }

  /** Waiting tasks keep their order: they are parked only if most of the tasks behind them have ended. */
  async #park(entries: readonly Entry[], locations: readonly (TaskLocation | null)[]): Promise<Entry[]> {
    const mostHaveEnded = this.#entries.length * 2 < this.#span
    const blockers = entries.filter((_, index) => {
      const location = locations[index]
      return location === 'delayed' || location === 'running' || (location === 'waiting' && mostHaveEnded)
    })
    if (blockers.length === 0) return []
    const parked = await this.#care.park(blockers.map(({ id }) => id))
    return blockers.filter(({ id }) => parked.has(id))
  }
}
