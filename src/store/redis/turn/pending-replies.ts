import type { Turn, TurnAnswer } from '../../store.ts'

type Part = Pick<TurnAnswer, 'leases' | 'cancelRequested'>

/**
 * Parts of answers that could not be returned because another part failed: they are included in the worker's next
 * answer.
 */
export class PendingReplies {
  readonly #byWorker = new Map<string, Part>()

  keep(workerId: string, { leases, cancelRequested }: Part): void {
    if (leases.length + cancelRequested.length > 0) this.#byWorker.set(workerId, { leases, cancelRequested })
  }

  /** Returns the pending parts for a turn, if all of them fit its request. */
  take({ worker, want, types = worker.types }: Turn): Part {
    const pending = this.#byWorker.get(worker.id)
    const fits =
      pending && pending.leases.length <= want && pending.leases.every(({ task }) => types.includes(task.type))
    if (!fits) return { leases: [], cancelRequested: [] }
    this.#byWorker.delete(worker.id)
    return pending
  }
}
