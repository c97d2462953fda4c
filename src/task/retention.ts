import type { FinalStatus } from './status.ts'

/** For how many milliseconds tasks are kept after they have ended in a status; one that is left out has the default. */
export type Retention = { [Status in FinalStatus]?: number }

/** What is left out stays as it is; null removes it. */
export type RetentionChanges = { [Status in FinalStatus]?: number | null }

/** What operators have set of a type, and what its handler says of the statuses that they have not. */
export interface TypeRetention {
  set: Retention
  handler: Retention
}

export const NO_RETENTION: TypeRetention = { set: {}, handler: {} }

/** What is in force; a status that is left out has the default. */
export function retentionOf({ set, handler }: TypeRetention): Retention {
  return { ...handler, ...set }
}

/** The retention after a change. */
export function changedRetention(before: Retention, change: RetentionChanges): Retention {
  const changed = Object.entries({ ...before, ...change }).filter(([, value]) => value !== null)
  return Object.fromEntries(changed) as Retention
}

/** A change that makes any retention this one. */
export function changeToRetention(retention: Retention): RetentionChanges {
  return { success: null, failed: null, canceled: null, timeout: null, ...retention }
}
