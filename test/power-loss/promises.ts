import { isFinal, type Status } from '../../src/task/status.ts'
import type { Entry } from './journal.ts'

/** What the load writes into the journal about an answer that it has received. */
export type Mark =
  | { what: 'accepted'; tasks: { id: string; n: number; bytes: number }[] }
  | { what: 'shown'; id: string; status: Status }
  | { what: 'limit'; limit: number; isAcknowledged: boolean }

/** What the queue has promised by its answers. */
export interface Promises {
  accepted: Map<string, { n: number; bytes: number }>
  /** The latest status of each task that an answer has shown. */
  shown: Map<string, Status>
  /** The limits that may be in force: the last one that was acknowledged, and those asked for since. */
  limits: Set<number | null>
}

/** @param notAfter promises given later do not count; default all */
export function promisesOf(entries: readonly Entry[], notAfter = Number.POSITIVE_INFINITY): Promises {
  const promises: Promises = { accepted: new Map(), shown: new Map(), limits: new Set([null]) }
  for (const { kind, bytes } of entries) {
    if (kind !== 'mark') continue
    const mark = JSON.parse(bytes.toString()) as Mark & { at: number }
    if (mark.at > notAfter) {
      // It may have been done, or not.
      if (mark.what === 'limit') promises.limits.add(mark.limit)
      continue
    }
    if (mark.what === 'accepted') for (const { id, ...task } of mark.tasks) promises.accepted.set(id, task)
    else if (mark.what === 'limit') {
      if (mark.isAcknowledged) promises.limits.clear()
      promises.limits.add(mark.limit)
    } else if (!isFinal(promises.shown.get(mark.id) ?? 'pending')) promises.shown.set(mark.id, mark.status)
  }
  return promises
}

/** The time of the last mark before a cut. */
export function timeOf(entries: readonly Entry[]): number {
  const last = entries.findLast(({ kind }) => kind === 'mark')
  return last ? (JSON.parse(last.bytes.toString()) as { at: number }).at : 0
}
