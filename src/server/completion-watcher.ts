import type { Queue } from '../queue/queue.ts'
import type { TaskEvent } from '../task/event.ts'
import { isFinal } from '../task/status.ts'
import { MACHINE_TIME, pause } from '../task/time.ts'

const PAGE = 1_000
const EVENTS_WAIT_MS = 10_000
const AGAIN_MS = 500

/** Is called with the event of an end, and with null for a task that may have ended. */
export type OnEnd = (id: string, event: TaskEvent | null) => void

/**
 * The ends of tasks as they happen, for all calls that wait for some of them: one reader of the events, only while
 * there are such calls.
 */
export class CompletionWatcher {
  readonly #queue: Queue
  readonly #watchers = new Map<string, Set<OnEnd>>()
  #reading: { stop: AbortController; begun: Promise<void> } | null = null

  constructor(queue: Queue) {
    this.#queue = queue
  }

  /**
   * Resolves when no end can be missed any more, with the function that ends the watch.
   * @throws XQueueError `engine_unavailable`
   */
  async watch(ids: readonly string[], onEnd: OnEnd): Promise<() => void> {
    for (const id of ids) {
      const watchers = this.#watchers.get(id) ?? new Set()
      this.#watchers.set(id, watchers.add(onEnd))
    }
    this.#reading ??= this.#begin()
    try {
      await this.#reading.begun
    } catch (error) {
      this.#leave(ids, onEnd)
      throw error
    }
    return () => this.#leave(ids, onEnd)
  }

  #leave(ids: readonly string[], onEnd: OnEnd): void {
    for (const id of ids) {
      const watchers = this.#watchers.get(id)
      watchers?.delete(onEnd)
      if (watchers?.size === 0) this.#watchers.delete(id)
    }
    if (this.#watchers.size > 0) return
    this.#reading?.stop.abort()
    this.#reading = null
  }

  #begin() {
    const stop = new AbortController()
    const first = this.#queue.events({ after: null, max: 1 })
    const begun = first.then(
      ({ last }) => void this.#read(last, stop.signal),
      (error) => {
        this.#reading = null
        throw error
      },
    )
    return { stop, begun }
  }

  async #read(from: string, stopped: AbortSignal): Promise<void> {
    for (let after = from; !stopped.aborted; ) {
      try {
        const page = await this.#queue.events({ after, max: PAGE, waitMs: EVENTS_WAIT_MS, signal: stopped })
        after = page.last
        if (page.gap) this.#tellAll()
        for (const event of page.events) {
          if (isFinal(event.status)) this.#tell(event.taskId, event.kind === 'removed' ? null : event)
        }
      } catch {
        // The health check reports it.
        await pause(AGAIN_MS, MACHINE_TIME.after, stopped)
      }
    }
  }

  #tell(id: string, event: TaskEvent | null): void {
    for (const onEnd of this.#watchers.get(id) ?? []) onEnd(id, event)
  }

  #tellAll(): void {
    for (const id of this.#watchers.keys()) this.#tell(id, null)
  }
}
