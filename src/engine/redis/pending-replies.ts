import type { Turn, TurnAnswer } from '../engine.ts'

type Part = Pick<TurnAnswer, 'leases' | 'cancelRequested'>

/** What was in an answer that could not be given, because another part of it failed: it is in the worker's next one. */
export class PendingReplies {
  readonly #byWorker = new Map<string, Part>()

  keep(workerId: string, { leases, cancelRequested }: Part): void {
    if (leases.length + cancelRequested.length > 0) this.#byWorker.set(workerId, { leases, cancelRequested })
  }

  /** What there is for a turn, if all of it fits what that asks for. */
  take({ worker, want, types = worker.types }: Turn): Part {
    const untold = this.#byWorker.get(worker.id)
    const fits = untold && untold.leases.length <= want && untold.leases.every(({ task }) => types.includes(task.type))
    if (!fits) return { leases: [], cancelRequested: [] }
    this.#byWorker.delete(worker.id)
    return untold
  }
}
