import { isInstance } from '../task/brand.ts'
import { isFinal } from '../task/status.ts'
import type { Task } from '../task/task.ts'
import { taskOfJson } from '../task/task-json.ts'
import type { Handlers, PayloadOf, ResultOf } from '../worker/handler.ts'
import { call, type Server } from './call.ts'
import { type ChangesQuery, changes, type TaskChange } from './event-stream.ts'
import { Batch, Flow } from './flow.ts'
import { ScheduleClient } from './schedules.ts'
import { inputOf, type SubmitOptions } from './submission.ts'
import { Submissions } from './submissions.ts'

/** A typed task: payload and result have the types of the handler. */
export type TaskOf<H extends Handlers, Type extends keyof H> = Omit<Task, 'type' | 'payload' | 'result'> & {
  type: Type
  payload: PayloadOf<H, Type>
  /** Null until the task has succeeded. */
  result: ResultOf<H, Type> | null
}

type NewTask<H extends Handlers, Type extends keyof H & string> = SubmitOptions & {
  type: Type
  payload: PayloadOf<H, Type>
}

const UNSUCCESSFUL = Symbol.for('xqueue.TaskUnsuccessful')

/** Thrown for a task that ended without success; `task` is the task. */
export class TaskUnsuccessful extends Error {
  static override [Symbol.hasInstance](value: unknown): boolean {
    // biome-ignore lint/complexity/noThisInStatic: it may be a subclass that is asked
    return isInstance(value, this, TaskUnsuccessful, UNSUCCESSFUL)
  }

  override name = 'TaskUnsuccessful'
  readonly task: Task

  constructor(task: Task) {
    super(`task ${task.id} of type ${task.type} ended as ${task.status}${task.error ? `: ${task.error}` : ''}`)
    this.task = task
  }

  get [UNSUCCESSFUL](): true {
    return true
  }
}

/**
 * The typed client of a server. Calls throw XQueueError: the server's error with its `code`, or `engine_unavailable` if
 * the server cannot be reached. The call may then have been executed, so give submissions an `idempotencyKey` and
 * repeat them.
 */
export class Client<H extends Handlers> {
  readonly schedules: ScheduleClient<H>
  readonly #server: Server
  readonly #submissions: Submissions

  constructor(server: Server) {
    this.#server = server
    this.#submissions = new Submissions(server)
    this.schedules = new ScheduleClient(server)
  }

  /**
   * Submits a task; it is durable when this resolves. Submissions while one is under way share a call, and each gets
   * its own task or error.
   */
  async submit<Type extends keyof H & string>(
    type: Type,
    payload: PayloadOf<H, Type>,
    options: SubmitOptions = {},
  ): Promise<TaskOf<H, Type>> {
    return taskOfJson(await this.#submissions.submit(inputOf({ ...options, type, payload }))) as never
  }

  /** Submits up to 10,000 tasks, all or none; their ids, in order. */
  async submitMany<Type extends keyof H & string>(tasks: readonly NewTask<H, Type>[]): Promise<string[]> {
    const body = { tasks: tasks.map(inputOf) }
    const answer = await call<{ tasks: { id: string }[] }>(this.#server, 'POST', '/tasks/batch', body)
    return answer.tasks.map(({ id }) => id)
  }

  /** Creates a flow of tasks that wait for each other. @param name the batch; default a new one */
  flow(name?: string): Flow<H> {
    return new Flow(this.#server, name)
  }

  /** The batch with this name. */
  batch(name: string): Batch {
    return new Batch(this.#server, name)
  }

  async get(id: string): Promise<Task> {
    return taskOfJson(await call(this.#server, 'GET', `/tasks/${encodeURIComponent(id)}`))
  }

  /** Cancels a task; a running one is notified and may still be `processing` in the answer. */
  async cancel(id: string): Promise<Task> {
    return taskOfJson(await call(this.#server, 'DELETE', `/tasks/${encodeURIComponent(id)}`))
  }

  /**
   * Erases a finished task: payload, result, error, tags, idempotency key, and what events hold of it.
   * @throws XQueueError `task_not_finished`
   */
  async purge(id: string): Promise<void> {
    await call(this.#server, 'POST', `/tasks/${encodeURIComponent(id)}/purge`)
  }

  /** Runs a failed, canceled or timed-out task again. */
  async retry(id: string): Promise<Task> {
    return taskOfJson(await call(this.#server, 'POST', `/tasks/${encodeURIComponent(id)}/retry`))
  }

  /**
   * Waits for the end of a task and returns its result.
   * @throws TaskUnsuccessful if it ended without success; the reason of `signal` when it aborts
   */
  async result<Type extends keyof H & string>(
    task: string | TaskOf<H, Type>,
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<ResultOf<H, Type>> {
    const ended = await this.#end(typeof task === 'string' ? task : task.id, signal)
    if (ended.status !== 'success') throw new TaskUnsuccessful(ended)
    return ended.result as never
  }

  /** Status changes and progress from now on, until `signal` aborts. Resumes after a lost connection. */
  changes(query: ChangesQuery & { type?: keyof H & string } = {}, signal?: AbortSignal): AsyncGenerator<TaskChange> {
    return changes(this.#server, query, signal)
  }

  async #end(id: string, signal: AbortSignal | undefined): Promise<Task> {
    const task = await this.get(id)
    if (isFinal(task.status)) return task
    const leave = new AbortController()
    try {
      const stop = AbortSignal.any(signal ? [signal, leave.signal] : [leave.signal])
      // Read again when the stream is open, so that no end is missed in between.
      let looked: Promise<Task> | undefined
      const opened = () => {
        looked = this.get(id)
        looked.then(
          ({ status }) => isFinal(status) && leave.abort(),
          () => undefined, // The stream continues; the task is read again at the next reconnect.
        )
      }
      for await (const { status } of changes(this.#server, { taskId: id }, stop, opened)) if (isFinal(status)) break
      signal?.throwIfAborted()
      return await this.get(id)
    } finally {
      leave.abort()
    }
  }
}

/**
 * `createClient<typeof handlers>('http://localhost:8080')`: import the handlers as a type only. A server with access
 * control wants a `key`; default that of the environment, XQUEUE_KEY.
 */
export function createClient<H extends Handlers>(
  server = 'http://127.0.0.1:8080',
  { key = keyOfEnvironment() }: { key?: string | undefined } = {},
): Client<H> {
  return new Client({ url: server, key: key ?? null })
}

/** Browsers have no environment, and Deno may refuse to read it. */
function keyOfEnvironment(): string | undefined {
  try {
    return globalThis.process?.env?.XQUEUE_KEY
  } catch {
    return undefined
  }
}
