import { FINAL_STATUSES, type FinalStatus, isFinal, type Status } from '../task/status.ts'
import { mergeHistogram, percentiles } from './histogram.ts'
import type { Percentiles } from './type-info.ts'

/** Figures of types over time, in rings of a fixed number of slots. */
export const RINGS = {
  '10s': { slotMs: 10_000, slots: 360 },
  '5m': { slotMs: 300_000, slots: 288 },
  '2h': { slotMs: 7_200_000, slots: 360 },
} as const
export type Ring = keyof typeof RINGS

/** The name under which each slot has the sum of all types; no type has it. */
export const ALL_TYPES = ''
/** Types of one slot; further ones count only in the sum. */
export const HISTORY_TYPES_MAX = 500

/** The counts of a slot, in the order in which they are stored. */
export const COUNTS = ['submitted', 'started', ...FINAL_STATUSES, 'errors'] as const
export type Count = (typeof COUNTS)[number]

/** The figures of one slot as stored: counts, and histograms of waits and runs. */
export interface Figures {
  counts: number[]
  wait: number[]
  run: number[]
}

export interface HistoryQuery {
  ring: Ring
  type: string
}

export interface HistorySlot extends Figures {
  /** Number of the slot: its start divided by the length of a slot. */
  slot: number
}

export function noFigures(): Figures {
  return { counts: [], wait: [], run: [] }
}

export function addFigures(into: Figures, from: Figures): void {
  mergeHistogram(into.counts, from.counts)
  mergeHistogram(into.wait, from.wait)
  mergeHistogram(into.run, from.run)
}

/** `counts|wait|run`, each numbers with commas, without the zeros at the end. */
export function figuresText({ counts, wait, run }: Figures): string {
  return [counts, wait, run].map((list) => Array.from(list, (n) => n ?? 0).join(',')).join('|')
}

export function figuresOf(text: string): Figures {
  const [counts, wait, run] = text.split('|').map((list) => (list === '' ? [] : list.split(',').map(Number)))
  return { counts: counts!, wait: wait!, run: run! }
}

/** Figures of a process until they are written, by type. They belong to the ten seconds in which they were gathered. */
export class GatheredHistory {
  readonly #types = new Map<string, Figures>()
  #slot = 0

  get isEmpty(): boolean {
    return this.#types.size === 0
  }

  /** Whether ten seconds are over. */
  isDue(now: number): boolean {
    return !this.isEmpty && Math.floor(now / RINGS['10s'].slotMs) > this.#slot
  }

  add(now: number, slots: readonly [type: string, figures: Figures][]): void {
    if (this.isEmpty) this.#slot = Math.floor(now / RINGS['10s'].slotMs)
    for (const [type, { counts, wait, run }] of slots) {
      const figures = this.#types.get(type) ?? noFigures()
      this.#types.set(type, figures)
      addFigures(figures, { counts, wait: coarse(wait), run: coarse(run) })
    }
  }

  /** Returns the figures of each type with the time to which they belong, and starts again. */
  take(now: number): { at: number; types: [type: string, figures: Figures][] } {
    const types = [...this.#types]
    this.#types.clear()
    const { slotMs } = RINGS['10s']
    return { at: types.length === 0 ? now : this.#slot * slotMs, types }
  }
}

/** Histograms of a history are half as fine, because there are very many. */
function coarse(histogram: readonly number[]): number[] {
  const buckets: number[] = []
  histogram.forEach((n, bucket) => {
    if (n === 0) return
    const to = Math.ceil(bucket / 2)
    while (buckets.length <= to) buckets.push(0)
    buckets[to]! += n
  })
  return buckets
}

/** The percentiles of a histogram of a history. */
export function historyPercentiles(histogram: readonly number[]): Percentiles | null {
  return percentiles(histogram, 1)
}

/** The count of a task's end, or of an attempt that failed: the position in `COUNTS`. */
export function countOfEnd(status: FinalStatus): number {
  return COUNTS.indexOf(status)
}

export const SUBMITTED = COUNTS.indexOf('submitted')
export const STARTED = COUNTS.indexOf('started')
export const ERRORS = COUNTS.indexOf('errors')

/** Whether an attempt that ended like this is an error: also one that will be retried. */
export function isErrorOf(status: Status): boolean {
  return !isFinal(status) || status === 'failed' || status === 'timeout'
}
