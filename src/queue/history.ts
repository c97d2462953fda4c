import { ALL_TYPES, COUNTS, historyPercentiles, noFigures, RINGS, type Ring } from '../store/history.ts'
import type { Store } from '../store/store.ts'
import type { HistoryFigures, TypeHistory } from './queue.ts'

/** The figures of a type, with the slots in which nothing happened. */
export async function historyOf(store: Store, ring: Ring, type: string | null): Promise<TypeHistory> {
  const { slotMs, slots } = RINGS[ring]
  const last = Math.floor(store.now() / slotMs)
  const kept = new Map((await store.history({ ring, type: type ?? ALL_TYPES })).map((one) => [one.slot, one]))
  const figures = Array.from({ length: slots }, (_, at): HistoryFigures => {
    const slot = last - slots + 1 + at
    const { counts, wait, run } = kept.get(slot) ?? noFigures()
    const named = Object.fromEntries(COUNTS.map((name, index) => [name, counts[index] ?? 0]))
    return {
      at: slot * slotMs,
      ...(named as Record<(typeof COUNTS)[number], number>),
      waitMs: historyPercentiles(wait),
      runMs: historyPercentiles(run),
    }
  })
  return { slotMs, slots: figures }
}
