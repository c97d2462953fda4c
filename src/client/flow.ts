import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { XQueueError } from '../task/errors.ts'
import type { Status } from '../task/status.ts'
import type { Handlers, PayloadOf } from '../worker/handler.ts'
import { call, type Server } from './call.ts'
import { inputOf, type SubmitOptions } from './submission.ts'

/** How often the end of a batch is looked for: soon at first, then less often. */
const LOOK_MS = { first: 100, most: 2_000 }

/** How far the tasks of a batch are: how many in each status, and `removed`, which have ended and are not kept. */
export type BatchState = Record<Status, number> & {
  batch: string
  total: number
  removed: number
  /** How many have ended, 0–100. */
  progress: number
  /** Whether all have ended. */
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

  /** @throws XQueueError `not_found` when none of its tasks is kept */
  state(): Promise<BatchState> {
    return this.#look()
  }

  /**
   * Waits until all of its tasks have ended, however they did.
   * @param onProgress is told of each change that is seen
   * @throws the reason of `signal` when that fires
   */
  async ended({ signal, onProgress }: BatchWait = {}): Promise<BatchState> {
    let told = ''
    for (let lookMs = LOOK_MS.first; ; lookMs = Math.min(lookMs * 2, LOOK_MS.most)) {
      const state = await this.#look(signal)
      const seen = JSON.stringify(state)
      if (seen !== told) onProgress?.(state)
      told = seen
      if (state.done) return state
      await sleep(lookMs, undefined, signal ? { signal } : {}).catch((error: unknown) => {
        signal?.throwIfAborted()
        throw error
      })
    }
  }

  /** Cancels what has not ended; a running task is asked to stop. Returns how many that were. */
  async cancel(): Promise<number> {
    return (await call<{ count: number }>(this.#server, 'DELETE', this.#path())).count
  }

  /** Runs its failed, canceled and timed-out tasks again. Returns how many that were. */
  async retry(): Promise<number> {
    return (await call<{ count: number }>(this.#server, 'POST', `${this.#path()}/retry`)).count
  }

  #look(signal?: AbortSignal): Promise<BatchState> {
    return call(this.#server, 'GET', this.#path(), undefined, signal)
  }

  #path(): string {
    return `/batches/${encodeURIComponent(this.name)}`
  }
}

export interface BatchWait {
  signal?: AbortSignal
  onProgress?: (state: BatchState) => void
}

/** A task of a flow that has not been submitted, for others of the flow to wait for. */
export interface FlowTask<Type extends string = string> {
  readonly type: Type
  readonly place: number
}

export type FlowOptions = Omit<SubmitOptions, 'after' | 'batch'> & {
  /** Tasks of this flow, or ids of any that are there already. */
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

  constructor(server: Server, name: string = randomUUID()) {
    this.#server = server
    this.batch = new Batch(server, name)
  }

  /** Adds a task; what it waits for was added before, so that no two can wait for each other. */
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

  /** Submits all that was added; their ids, in that order, and the batch that tells how far they are. */
  async submit(): Promise<{ ids: string[]; batch: Batch }> {
    const answer = await call<{ tasks: { id: string }[] }>(this.#server, 'POST', '/tasks/batch', { tasks: this.#tasks })
    return { ids: answer.tasks.map(({ id }) => id), batch: this.batch }
  }

  /** A place says nothing in another flow. */
  #placeOf(task: FlowTask): number {
    if (this.#added.has(task)) return task.place
    const remedy = 'use the ids from submit() to wait for tasks of another flow'
    throw new XQueueError('invalid_request', `a task of type "${task.type}" was not added to this flow: ${remedy}`)
  }
}
