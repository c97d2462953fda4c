import { XQueueError } from '../task/errors.ts'
import type { Status } from '../task/status.ts'
import { MACHINE_TIME, pause } from '../task/time.ts'
import type { Handlers, PayloadOf } from '../worker/handler.ts'
import { call, type Server } from './call.ts'
import { inputOf, type SubmitOptions } from './submission.ts'

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
   * Waits until all of its tasks have ended in any status.
   * @param onProgress called for each observed change
   * @throws the reason of `signal` when it aborts
   */
  async ended({ signal, onProgress }: BatchWait = {}): Promise<BatchState> {
    let told = ''
    for (let lookMs = LOOK_MS.first; ; lookMs = Math.min(lookMs * 2, LOOK_MS.most)) {
      const state = await this.#look(signal)
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

export interface BatchWait {
  signal?: AbortSignal
  onProgress?: (state: BatchState) => void
}

/** A task of an unsubmitted flow, which other tasks can wait for. */
export interface FlowTask<Type extends string = string> {
  readonly type: Type
  readonly place: number
}

export type FlowOptions = Omit<SubmitOptions, 'after' | 'batch'> & {
  /** Tasks of this flow, or ids of existing tasks. */
  after?: readonly (FlowTask | string)[]
}

/**
 * Tasks that wait for each other, submitted in one call: all of them are accepted, or none.
 *
 *     const flow = client.flow()
 *     const pages = urls.map((url) => flow.add('fetch', { url }))
 *     flow.add('report', {}, { after: pages })
 *     const { batch } = await flow.submit()
 *     await batch.ended()
 */
export class Flow<H extends Handlers> {
  readonly batch: Batch
  readonly #server: Server
  readonly #tasks: ReturnType<typeof inputOf>[] = []
  readonly #added = new Set<FlowTask>()

  constructor(server: Server, name: string = randomName()) {
    this.#server = server
    this.batch = new Batch(server, name)
  }

  /** Adds a task. Its predecessors were added before, so cycles are impossible. */
  add<Type extends keyof H & string>(
    type: Type,
    payload: PayloadOf<H, Type>,
    { after = [], ...options }: FlowOptions = {},
  ): FlowTask<Type> {
    const places = after.map((task) => (typeof task === 'string' ? task : this.#placeOf(task)))
    const place = this.#tasks.push(inputOf({ ...options, type, payload, after: places, batch: this.batch.name })) - 1
    const added = { type, place }
    this.#added.add(added)
    return added
  }

  /** Submits all added tasks; returns their ids in that order, and the batch. */
  async submit(): Promise<{ ids: string[]; batch: Batch }> {
    const answer = await call<{ tasks: { id: string }[] }>(this.#server, 'POST', '/tasks/batch', { tasks: this.#tasks })
    return { ids: answer.tasks.map(({ id }) => id), batch: this.batch }
  }

  /** A position is meaningless in another flow. */
  #placeOf(task: FlowTask): number {
    if (this.#added.has(task)) return task.place
    const remedy = 'use the ids from submit() to wait for tasks of another flow'
    throw new XQueueError('invalid_request', `a task of type "${task.type}" was not added to this flow: ${remedy}`)
  }
}

/** `crypto.randomUUID` is missing on pages without TLS. */
function randomName(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('')
}
