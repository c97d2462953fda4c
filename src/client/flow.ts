import { XQueueError } from '../task/errors.ts'
import type { Handlers, PayloadOf, ResultOf } from '../worker/handler.ts'
import { Batch } from './batch.ts'
import { call, type Server } from './call.ts'
import { resultOf } from './result.ts'
import { inputOf, type SubmitOptions } from './submission.ts'
import type { Waits } from './waits.ts'

/** A task of a flow, which other tasks of the flow can wait for. */
export class FlowTask<Type extends string = string, Result = unknown> {
  readonly type: Type
  /** Position in the flow, from 0. */
  readonly place: number
  readonly #waits: Waits
  readonly #ids: readonly string[]

  /** @param ids those of all tasks of the flow; empty until it has been submitted */
  constructor(waits: Waits, type: Type, place: number, ids: readonly string[]) {
    this.#waits = waits
    this.#ids = ids
    this.type = type
    this.place = place
  }

  /** @throws XQueueError `invalid_request` before the flow has been submitted */
  get id(): string {
    const id = this.#ids[this.place]
    if (id !== undefined) return id
    throw new XQueueError(
      'invalid_request',
      `the flow of this "${this.type}" task is not submitted: call submit() first`,
    )
  }

  /**
   * Waits for the end of the task and returns its result.
   * @throws TaskUnsuccessful if it ended without success; the reason of `signal` when it aborts
   */
  async result({ signal }: { signal?: AbortSignal } = {}): Promise<Result> {
    return (await resultOf(this.#waits, this.id, signal)) as Result
  }
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
 *     const report = flow.add('report', {}, { after: pages })
 *     await flow.submit()
 *     console.log(await report.result())
 */
export class Flow<H extends Handlers> {
  readonly batch: Batch
  readonly #server: Server
  readonly #waits: Waits
  readonly #tasks: ReturnType<typeof inputOf>[] = []
  readonly #added = new Set<FlowTask>()
  readonly #ids: string[] = []

  constructor(server: Server, waits: Waits, name: string = randomName()) {
    this.#server = server
    this.#waits = waits
    this.batch = new Batch(server, name)
  }

  /** Adds a task. Its predecessors were added before, so cycles are impossible. */
  add<Type extends keyof H & string>(
    type: Type,
    payload: PayloadOf<H, Type>,
    { after = [], ...options }: FlowOptions = {},
  ): FlowTask<Type, ResultOf<H, Type>> {
    const places = after.map((task) => (typeof task === 'string' ? task : this.#placeOf(task)))
    const place = this.#tasks.push(inputOf({ ...options, type, payload, after: places, batch: this.batch.name })) - 1
    const added = new FlowTask<Type, ResultOf<H, Type>>(this.#waits, type, place, this.#ids)
    this.#added.add(added)
    return added
  }

  /** Submits all added tasks; returns their ids in that order, and the batch. */
  async submit(): Promise<{ ids: string[]; batch: Batch }> {
    const answer = await call<{ tasks: { id: string }[] }>(this.#server, 'POST', '/tasks/batch', { tasks: this.#tasks })
    this.#ids.push(...answer.tasks.map(({ id }) => id))
    return { ids: [...this.#ids], batch: this.batch }
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
