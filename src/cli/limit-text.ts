import { durationText, isTerminal, table, timeBoth, timeText } from './terminal.ts'

/** Limits in words, for people. */

export interface Holder {
  task_id: string
  worker_id: string
  since: string
  units?: number
}

interface State {
  paused: boolean
  held_until: string | null
}

export function rateText({ max, per }: { max: number; per: number }): string {
  return `${max} in ${durationText(per * 1_000)}`
}

/** @param isShort for a column of a table */
export function stateText({ paused, held_until }: State, isShort = false): string {
  if (paused) return 'paused'
  if (held_until === null) return 'on'
  return isShort && isTerminal() ? `held, ends ${timeText(held_until)}` : `held until ${timeBoth(held_until)}`
}

/** @param withUnits how many units of the limit each holds */
export function holderTable(holders: readonly Holder[], withUnits = false): string {
  const rows = holders.map(({ task_id, worker_id, since, units = 1 }) => {
    return [task_id, worker_id, ...(withUnits ? [units] : []), timeText(since)]
  })
  return table(['HELD BY TASK', 'WORKER', ...(withUnits ? ['UNITS'] : []), 'SINCE'], rows)
}
