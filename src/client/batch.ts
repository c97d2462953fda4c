import type { Status } from '../task/status.ts'
import { MACHINE_TIME, pause } from '../task/time.ts'
import { call, type Server } from './call.ts'
import { type Patience, readPatiently } from './patience.ts'

/** Intervals of polling for the end of a batch: short at first, then longer. */
const LOOK_MS = { first: 100, most: 2_000 }

/** Progress of a batch: tasks by status, and `removed` for ended tasks that have been deleted. */
export type BatchState = Record<Status, number> & {
  batch: string
  total: number
  removed: number
  /** Percentage of ended tasks, 0–100. */
  progress: number
  /** Whether all tasks have ended. */
  done: boolean
}

/** Tasks that were submitted under one name. */
export class Batch {
  readonly name: string
  readonly #server: Server

  constructor(server: Server, name: string) {
    this.#server = server
    this.name = name
  }

  /** @throws XQueueError `not_found` if none of its tasks is stored */
  state(): Promise<BatchState> {
    return this.#look()
  }

  /**
   * Waits until all of its tasks have ended in any status. Once the server has answered, it may be away for a minute.
   * @param onProgress called for each observed change
   * @param onAway called when the server does not answer, with the error
   * @throws the reason of `signal` when it aborts
   */
  async ended({ signal, onProgress, onAway }: BatchWait = {}): Promise<BatchState> {
    let told = ''
    for (let lookMs = LOOK_MS.first; ; lookMs = Math.min(lookMs * 2, LOOK_MS.most)) {
      const look = () => this.#look(signal)
      const state = await readPatiently(look, { signal, onAway, wasReached: told !== '' })
      const seen = JSON.stringify(state)
      if (seen !== told) onProgress?.(state)
      told = seen
      if (state.done) return state
      await pause(lookMs, MACHINE_TIME.after, signal)
      signal?.throwIfAborted()
    }
  }

  /** Cancels unfinished tasks; running ones are notified. Returns their number. */
  async cancel(): Promise<number> {
    return (await call<{ count: number }>(this.#server, 'DELETE', this.#path())).count
  }

  /** Runs failed, canceled and timed-out tasks again. Returns their number. */
  async retry(): Promise<number> {
    return (await call<{ count: number }>(this.#server, 'POST', `${this.#path()}/retry`)).count
  }

  #look(signal?: AbortSignal): Promise<BatchState> {
    return call(this.#server, 'GET', this.#path(), undefined, signal ? { signal } : {})
  }

  #path(): string {
    return `/batches/${encodeURIComponent(this.name)}`
  }
}

export interface BatchWait extends Patience {
  onProgress?: (state: BatchState) => void
}
