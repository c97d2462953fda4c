import type { Percentiles } from '../engine.ts'
import type { Store } from './store.ts'

const SLOT_MS = 10_000
/** Rates look at one minute, percentiles at five. */
const RATE_SLOTS = 6
const PERCENTILE_SLOTS = 30
const KEPT_SLOTS = 360

/** Histogram bounds grow by √2 from 1 ms to about 18 hours; a percentile is therefore within 20 % of the truth. */
const BUCKETS = 53

interface Slot {
  finished: number
  wait: number[]
  run: number[]
}

export interface RecentRates {
  throughput: number
  waitMs: Percentiles | null
  runMs: Percentiles | null
}

/**
 * How fast tasks of each type finish, wait and run, over all processes. Gathered in memory and added to the file now
 * and then: a crash loses at most the last second of a statistic, never a task.
 */
export class Rates {
  readonly #store: Store
  readonly #gathered = new Map<string, Slot>()

  constructor(store: Store) {
    this.#store = store
  }

  started(type: string, waitMs: number): void {
    add(this.#slot(type).wait, waitMs)
  }

  ended(type: string, runMs: number | null, finished: boolean): void {
    const slot = this.#slot(type)
    if (finished) slot.finished += 1
    if (runMs !== null) add(slot.run, runMs)
  }

  get isEmpty(): boolean {
    return this.#gathered.size === 0
  }

  /** Adds what was gathered to the file; call it inside a transaction. */
  write(now: number): void {
    const number = Math.floor(now / SLOT_MS)
    for (const [type, slot] of this.#gathered) {
      const row = this.#store.get('rateSlot', type, number)
      if (row) {
        slot.finished += row.finished as number
        merge(slot.wait, JSON.parse(row.wait as string))
        merge(slot.run, JSON.parse(row.run as string))
      }
      this.#store.run('putRateSlot', type, number, slot.finished, JSON.stringify(slot.wait), JSON.stringify(slot.run))
    }
    this.#gathered.clear()
    this.#store.run('dropRates', number - KEPT_SLOTS)
  }

  recent(now: number): Map<string, RecentRates> {
    const number = Math.floor(now / SLOT_MS)
    const sums = new Map<string, Slot>()
    for (const row of this.#store.all('recentRates', number - PERCENTILE_SLOTS)) {
      const type = row.type as string
      const sum = sums.get(type) ?? emptySlot()
      sums.set(type, sum)
      if ((row.slot as number) > number - RATE_SLOTS) sum.finished += row.finished as number
      merge(sum.wait, JSON.parse(row.wait as string))
      merge(sum.run, JSON.parse(row.run as string))
    }
    const seconds = (RATE_SLOTS * SLOT_MS) / 1_000
    return new Map(
      [...sums].map(([type, { finished, wait, run }]) => [
        type,
        { throughput: finished / seconds, waitMs: percentiles(wait), runMs: percentiles(run) },
      ]),
    )
  }

  #slot(type: string): Slot {
    const slot = this.#gathered.get(type) ?? emptySlot()
    this.#gathered.set(type, slot)
    return slot
  }
}

function emptySlot(): Slot {
  return { finished: 0, wait: [], run: [] }
}

function add(histogram: number[], ms: number): void {
  const bucket = Math.min(ms < 1 ? 0 : Math.ceil(2 * Math.log2(ms)), BUCKETS - 1)
  while (histogram.length <= bucket) histogram.push(0)
  histogram[bucket]! += 1
}

function merge(into: number[], from: readonly number[]): void {
  from.forEach((n, bucket) => {
    into[bucket] = (into[bucket] ?? 0) + n
  })
}

function percentiles(histogram: readonly number[]): Percentiles | null {
  const total = histogram.reduce((sum, n) => sum + n, 0)
  if (total === 0) return null
  const at = (share: number) => {
    let seen = 0
    const bucket = histogram.findIndex((n) => {
      seen += n
      return seen >= share * total
    })
    return Math.round(2 ** (bucket / 2) * 10) / 10
  }
  return { p50: at(0.5), p95: at(0.95), p99: at(0.99) }
}
