import { answerOf } from './answer.ts'
import type { Percentiles } from './types.ts'

export type HistoryRange = '1h' | '24h' | '7d' | '30d'

export interface HistorySlot {
  /** Start of the slot. */
  at: Date
  /** Tasks accepted. */
  submitted: number
  /** Attempts started. */
  started: number
  /** Tasks that ended in each status. */
  success: number
  failed: number
  canceled: number
  timeout: number
  /** Attempts that failed or timed out, also those that were retried. */
  errors: number
  /** From `runAt` to the start; null: no starts. */
  wait: Percentiles | null
  /** From the start of an attempt to its end; null: none. */
  run: Percentiles | null
}

export interface History {
  range: HistoryRange
  /** Length of a slot in seconds. */
  slot: number
  /** All slots of the range, oldest first; the last one is not over yet. */
  slots: HistorySlot[]
}

export function historyOf(json: { slots: object[] }): History {
  const { slots, ...history } = answerOf<History>(json)
  return { ...history, slots: slots.map((slot) => answerOf<HistorySlot>(slot, ['at'])) }
}
