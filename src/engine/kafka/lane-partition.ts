import type { State, TaskLocation } from '../state.ts'
import type { ReadRecord } from './fetched.ts'
import type { PartitionReader } from './group.ts'
import { type Trouble, troubleAt } from './trouble.ts'

/** So many records of a partition are in view; it is read no further while the first of them has not ended. */
const WINDOW_MAX = 4_096
/** Looked up at a time. */
const LOOKS_MAX = 512
const PAUSE_MS = { least: 100, most: 3_000 } as const

/** A record in view. The id of one that is no accepted task is known to nobody. */
export interface Entry {
  offset: bigint
  id: string
}

/** What is done about accepted tasks that do not simply end. */
export interface LaneCare {
  /** Resolves when what came of tasks until now is on its topic: the state alone could lose it. */
  told(): Promise<void>
  /** Writes tasks to where they hold up nobody. */
  park(ids: readonly string[]): Promise<void>
  /**
   * Takes back what the state should know and does not, and puts records aside that are no accepted tasks; answers the
   * offsets that are done with: of these, and of tasks that had ended and are forgotten by now.
   */
  mend(entries: readonly Entry[]): Promise<ReadonlySet<bigint>>
}

/**
 * Watches the accepted tasks of a partition until they have ended: offsets move up to the first that has not. A task
 * that holds up a full window (it is delayed, or runs, or waits while those behind it have ended) is parked, and counts
 * as done with here.
 */
export class LanePartition implements PartitionReader {
  readonly #state: State
  readonly #care: LaneCare
  #entries: Entry[] = []
  #next: bigint
  /** Where the next look begins. */
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
    this.#lookIn(PAUSE_MS.least)
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
  }

  /** Records from the first in view to the last. */
  get #span(): number {
    return this.#entries.length === 0 ? 0 : Number(this.#next - this.#entries[0]!.offset)
  }

  #lookIn(ms: number): void {
    if (this.#closed || this.#timer || this.#entries.length === 0) return
    this.#timer = setTimeout(async () => {
      // The state or Kafka may be away: what is in view is looked at again.
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
      this.#lookIn(done >= LOOKS_MAX / 2 ? 0 : this.#pauseMs)
    }, ms)
    this.#timer.unref()
  }

  /** Looks at the next of those in view, round and round, and at the first; answers how many are done with. */
  async #read(): Promise<number> {
    if (this.#from >= this.#entries.length) this.#from = 0
    const some = this.#entries.slice(this.#from, this.#from + LOOKS_MAX)
    if (this.#from > 0) some.unshift(this.#entries[0]!)
    const locations = await this.#state.locate(some.map(({ id }) => id))
    const done = new Set(some.filter((_, index) => locations[index] === 'finished'))
    if (done.size > 0) await this.#care.told()
    for (const entry of await this.#mend(some.filter((_, index) => locations[index] === null))) done.add(entry)
    if (!this.wants) for (const entry of await this.#park(some, locations)) done.add(entry)
    if (done.size > 0) this.#entries = this.#entries.filter((entry) => !done.has(entry))
    this.#from += Math.max(LOOKS_MAX - done.size, 0)
    return done.size
  }

  async #mend(unknown: readonly Entry[]): Promise<Entry[]> {
    if (unknown.length === 0) return []
    const done = await this.#care.mend(unknown)
    return unknown.filter(({ offset }) => done.has(offset))
  }

  /** Waiting tasks are in each other's order: they are parked only if most of what came after them has ended. */
  async #park(entries: readonly Entry[], locations: readonly (TaskLocation | null)[]): Promise<Entry[]> {
    const mostHaveEnded = this.#entries.length * 2 < this.#span
    const blockers = entries.filter((_, index) => {
      const stand = locations[index]
      return stand === 'delayed' || stand === 'running' || (stand === 'waiting' && mostHaveEnded)
    })
    if (blockers.length > 0) await this.#care.park(blockers.map(({ id }) => id))
    return blockers
  }
}
