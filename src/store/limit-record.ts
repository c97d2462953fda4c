import type { LimitChange, Rate } from './type-info.ts'

/** The settings of a named limit as stores keep them; how they change is decided here. */
export interface LimitRecord {
  /** Units that may be held at once; null: any number. */
  max: number | null
  /** Units that may start in a window; null: any number. */
  rate: Rate | null
  paused: boolean
  /** No task that uses it starts before this time; null or in the past: it is not held. */
  heldUntil: number | null
  /** What an operator has set: a handler no longer changes it. */
  setByOperator: Readonly<Record<'max' | 'rate', boolean>>
}

export const NEW_LIMIT: LimitRecord = {
  max: null,
  rate: null,
  paused: false,
  heldUntil: null,
  setByOperator: { max: false, rate: false },
}

/** Whether a change creates a limit that does not exist. */
export function createsLimit({ handler, max, rate }: LimitChange): boolean {
  return handler !== undefined || max !== undefined || rate !== undefined
}

/** The settings of a limit after a change: what a handler declares, then what an operator sets. */
export function changedLimit(before: LimitRecord, change: LimitChange): LimitRecord {
  const { handler, paused = before.paused, heldUntil = before.heldUntil } = change
  const { setByOperator: by } = before
  const { max = handler && !by.max ? handler.max : before.max } = change
  const { rate = handler && !by.rate ? handler.rate : before.rate } = change
  return {
    max,
    rate,
    paused,
    heldUntil,
    setByOperator: { max: by.max || change.max !== undefined, rate: by.rate || change.rate !== undefined },
  }
}
