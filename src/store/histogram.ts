import type { Percentiles } from './type-info.ts'

/** Histograms of durations with bounds that grow by a fixed factor, from 1 ms. */

export function mergeHistogram(into: number[], from: readonly number[]): void {
  for (let bucket = 0; bucket < from.length; bucket++) into[bucket] = (into[bucket] ?? 0) + (from[bucket] ?? 0)
}

/**
 * The geometric middles of buckets, so an estimate is at most half a bucket too low or too high.
 *
 * @param buckets number of buckets for each doubling
 */
export function percentiles(histogram: readonly number[], buckets = 2): Percentiles | null {
  const total = histogram.reduce((sum, n) => sum + n, 0)
  if (total === 0) return null
  const at = (share: number) => {
    let seen = 0
    const bucket = histogram.findIndex((n) => {
      seen += n
      return seen >= share * total
    })
    return Math.round(2 ** ((bucket - 0.5) / buckets) * 10) / 10
  }
  return { p50: at(0.5), p95: at(0.95), p99: at(0.99) }
}
