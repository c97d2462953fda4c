import { isFinal, type Status } from '../task/status.ts'
import { mergeHistogram, percentiles } from './histogram.ts'
import { COUNTS, countOfEnd, ERRORS, GatheredHistory, isErrorOf, STARTED, SUBMITTED } from './history.ts'
import type { Percentiles } from './type-info.ts'

/** Statistics are kept in slots of ten seconds; rates cover one minute, percentiles five. */
export const SLOT_MS = 10_000
export const PERCENTILE_SLOTS = 30
const RATE_SLOTS = 6

/** Histogram bounds grow by √2 from 1 ms to about 18 hours; a percentile is therefore within 20 % of the true value. */
export const BUCKETS = 53

/** The tasks that finished in one slot, with histograms of their waiting and running times. */
export interface Slot {
  finished: number
  /** In the order of `COUNTS` of history.ts. */
  counts: number[]
  wait: number[]
  run: number[]
}

export type RecentSlot = Omit<Slot, 'counts'>

export interface RecentRates {
  throughput: number
  waitMs: Percentiles | null
  runMs: Percentiles | null
}

/**
 * Statistics of how fast tasks of each type finish, wait and run, gathered in memory and added to the store at
 * intervals: a crash loses at most the last second of a statistic, never a task.
 */
export class GatheredRates {
  readonly history = new GatheredHistory()
  readonly #slots = new Map<string, Slot>()

  submitted(type: string, tasks: number): void {
    this.#slot(type).counts[SUBMITTED]! += tasks
  }

  started(type: string, waitMs: number): void {
    const slot = this.#slot(type)
    slot.counts[STARTED]! += 1
    add(slot.wait, waitMs)
  }

  /**
   * An attempt or a task ended.
   *
   * @param status the status of the task after that
   * @param runMs null: not known
   */
  ended(type: string, status: Status, runMs: number | null, hasRun = runMs !== null): void {
    const slot = this.#slot(type)
    if (isFinal(status)) {
      slot.finished += 1
      slot.counts[countOfEnd(status)]! += 1
    }
    if (hasRun && isErrorOf(status)) slot.counts[ERRORS]! += 1
    if (runMs !== null) add(slot.run, runMs)
  }

  get isEmpty(): boolean {
    return this.#slots.size === 0
  }

  /** Returns the gathered statistics, and starts again from zero. They stay in the history until it is written. */
  take(now: number): [type: string, slot: Slot][] {
    const taken = [...this.#slots]
    this.#slots.clear()
    this.history.add(now, taken)
    return taken
  }

  #slot(type: string): Slot {
    const known = this.#slots.get(type)
    if (known) return known
    const slot = emptySlot()
    this.#slots.set(type, slot)
    return slot
  }
}

/** Adds up the slots of the last minutes, by type. */
export class RecentSlots {
  readonly #current: number
  readonly #sums = new Map<string, Slot>()

  constructor(now: number) {
    this.#current = Math.floor(now / SLOT_MS)
  }

  add(type: string, number: number, slot: RecentSlot): void {
    const sum = this.#sums.get(type) ?? emptySlot()
    this.#sums.set(type, sum)
    if (number > this.#current - RATE_SLOTS) sum.finished += slot.finished
    mergeHistogram(sum.wait, slot.wait)
    mergeHistogram(sum.run, slot.run)
  }

  rates(): Map<string, RecentRates> {
    const seconds = (RATE_SLOTS * SLOT_MS) / 1_000
    return new Map(
      [...this.#sums].map(([type, { finished, wait, run }]) => [
        type,
        { throughput: finished / seconds, waitMs: percentiles(wait), runMs: percentiles(run) },
      ]),
    )
  }
}

function emptySlot(): Slot {
  return { finished: 0, counts: COUNTS.map(() => 0), wait: [], run: [] }
}

function add(histogram: number[], ms: number): void {
  const bucket = Math.min(ms < 1 ? 0 : Math.ceil(2 * Math.log2(ms)), BUCKETS - 1)
  while (histogram.length <= bucket) histogram.push(0)
  histogram[bucket]! += 1
}
