import type { Queue } from '../../src/queue/queue.ts'
import { isFinal } from '../../src/task/status.ts'

const PAGE = 5_000

/**
 * Counts accepted and ended tasks in bounded memory: it stores only open tasks.
 * An end may be reported before the answer to the submission has arrived.
 */
export class Ledger {
  accepted = 0
  ended = 0
  gaps = 0
  readonly #engine: Queue
  readonly #open = new Set<string>()
  readonly #early = new Set<string>()
  readonly #stop = new AbortController()
  readonly #reading: Promise<void>

  constructor(engine: Queue, after: string) {
    this.#engine = engine
    this.#reading = this.#read(after)
  }

  accept(id: string): void {
    this.accepted += 1
    if (!this.#early.delete(id)) this.#open.add(id)
  }

  /** Accepted and not ended. */
  get open(): number {
    return this.#open.size
  }

  /** Ended, and not accepted: a second end, once everything is over. */
  get unaccounted(): number {
    return this.#early.size
  }

  async close(): Promise<void> {
    this.#stop.abort()
    await this.#reading
  }

  async #read(from: string): Promise<void> {
    const { signal } = this.#stop
    for (let after = from; !signal.aborted; ) {
      const { events, last, gap } = await this.#engine.events({ after, max: PAGE, waitMs: 1_000, signal })
      if (gap) this.gaps += 1
      for (const { kind, taskId, status } of events) {
        if (kind !== 'status' || !isFinal(status)) continue
        this.ended += 1
        if (!this.#open.delete(taskId)) this.#early.add(taskId)
      }
      after = last
    }
  }
}
