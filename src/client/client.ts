import type { TaskJson } from '../task/task-json.ts'
import { type TaskView, viewOfJson } from '../task/task-view.ts'
import type { Handlers, PayloadOf, ResultOf } from '../worker/handler.ts'
import { attemptsOf, type TaskAttempts } from './attempts.ts'
import { Batch } from './batch.ts'
import { call, type Server } from './call.ts'
import { type ChangesQuery, changes, type TaskChange } from './event-stream.ts'
import { type Explanation, explanationOf } from './explanation.ts'
import { Flow } from './flow.ts'
import { type History, type HistoryRange, historyOf } from './history.ts'
import { LimitClient } from './limits.ts'
import { logOf, type TaskLog } from './logs.ts'
import { readTask, resultOf } from './result.ts'
import { ScheduleClient } from './schedules.ts'
import { type Stats, statsOf, type WorkerInfo, workerOf } from './statistics.ts'
import { inputOf, type SubmitOptions } from './submission.ts'
import { Submissions } from './submissions.ts'
import { filterOf, type ListOptions, type TaskFilter, TaskList } from './task-list.ts'
import { TypeClient } from './types.ts'
import { Waits } from './waits.ts'

/** A typed task: payload and result have the types of the handler. */
export type TaskOf<H extends Handlers, Type extends keyof H> = Omit<
  TaskView<PayloadOf<H, Type>, ResultOf<H, Type>>,
  'type'
> & { type: Type }

/** A task of `submitMany`: one of the types of `H`, with the payload of that type. */
export type NewTask<H extends Handlers> = {
  [Type in keyof H & string]: SubmitOptions & { type: Type; payload: PayloadOf<H, Type> }
}[keyof H & string]

/** A filter of many tasks; with `dryRun` they are counted (up to 100,000) and not changed. */
export type ManyTasks<H extends Handlers> = TaskFilter & { type?: keyof H & string; dryRun?: boolean }

/**
 * The typed client of a server. Calls throw XQueueError: the server's error with its `code`, or `engine_unavailable` if
 * the server cannot be reached. The call may then have been executed, so give submissions an `idempotencyKey` and
 * repeat them.
 */
export class Client<H extends Handlers> {
  readonly schedules: ScheduleClient<H>
  readonly types: TypeClient<H>
  readonly limits: LimitClient
  readonly #server: Server
  readonly #submissions: Submissions
  readonly #waits: Waits

  constructor(server: Server) {
    this.#server = server
    this.#submissions = new Submissions(server)
    this.#waits = new Waits(server)
    this.schedules = new ScheduleClient(server)
    this.types = new TypeClient(server)
    this.limits = new LimitClient(server)
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
    return viewOfJson(await this.#submissions.submit(inputOf({ ...options, type, payload }))) as never
  }

  /** Submits up to 10,000 tasks of any types, all or none; their ids, in order. */
  async submitMany(tasks: readonly NewTask<H>[]): Promise<string[]> {
    const body = { tasks: tasks.map(inputOf) }
    const answer = await call<{ tasks: { id: string }[] }>(this.#server, 'POST', '/tasks/batch', body)
    return answer.tasks.map(({ id }) => id)
  }

  /** Creates a flow of tasks that wait for each other. @param name the batch; default a new one */
  flow(name?: string): Flow<H> {
    return new Flow(this.#server, this.#waits, name)
  }

  /** The batch with this name. */
  batch(name: string): Batch {
    return new Batch(this.#server, name)
  }

  get(id: string): Promise<TaskView> {
    return readTask(this.#server, id)
  }

  /** All matching tasks, newest first, page by page as they are read. */
  list<Type extends keyof H & string = keyof H & string>(
    options: ListOptions & { type?: Type } = {},
  ): TaskList<TaskOf<H, Type>> {
    return new TaskList(this.#server, options)
  }

  /** The reason why a task is not running. */
  async explain(id: string): Promise<Explanation> {
    return explanationOf(await call(this.#server, 'GET', `${pathOf(id)}/explain`))
  }

  /** The attempts of a task with their errors, oldest first. */
  async attempts(id: string): Promise<TaskAttempts> {
    return attemptsOf(await call(this.#server, 'GET', `${pathOf(id)}/attempts`))
  }

  /** Lines that the handler of a task wrote with its log, after the line number `after`; at most 1,000. */
  async logs(id: string, { after = 0 }: { after?: number } = {}): Promise<TaskLog> {
    return logOf(await call(this.#server, 'GET', `${pathOf(id)}/logs?after=${after}`))
  }

  /** Cancels a task; a running one is notified and may still be `processing` in the answer. */
  async cancel(id: string): Promise<TaskView> {
    return viewOfJson(await call<TaskJson>(this.#server, 'DELETE', pathOf(id)))
  }

  /** Cancels all matching tasks; returns their number. */
  cancelMany(tasks: ManyTasks<H>): Promise<number> {
    return this.#changeMany('cancel', tasks)
  }

  /** Runs a failed, canceled or timed-out task again. */
  async retry(id: string): Promise<TaskView> {
    return viewOfJson(await call<TaskJson>(this.#server, 'POST', `${pathOf(id)}/retry`))
  }

  /** Runs all matching failed, canceled and timed-out tasks again; returns their number. */
  retryMany(tasks: ManyTasks<H>): Promise<number> {
    return this.#changeMany('retry', tasks)
  }

  /**
   * Erases a finished task: payload, result, error, tags, idempotency key, and the data of its events.
   * @throws XQueueError `task_not_finished`
   */
  async delete(id: string): Promise<void> {
    await call(this.#server, 'POST', `${pathOf(id)}/purge`)
  }

  /** Erases all matching tasks that have ended, as `delete` does; returns their number. */
  deleteMany(tasks: ManyTasks<H>): Promise<number> {
    return this.#changeMany('purge', tasks)
  }

  /**
   * Waits for the end of a task and returns its result. All waits of a client share a few calls.
   * @throws TaskUnsuccessful if it ended without success; the reason of `signal` when it aborts
   */
  async result<Type extends keyof H & string>(
    task: string | TaskOf<H, Type>,
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<ResultOf<H, Type>> {
    return (await resultOf(this.#waits, typeof task === 'string' ? task : task.id, signal)) as never
  }

  /** Status changes and progress from now on, until `signal` aborts. Resumes after a lost connection. */
  changes(
    query: ChangesQuery & { type?: keyof H & string } = {},
    signal?: AbortSignal,
  ): AsyncGenerator<TaskChange, void, undefined> {
    return changes(this.#server, query, signal)
  }

  /** Figures over all processes. */
  async stats(): Promise<Stats> {
    return statsOf(await call(this.#server, 'GET', '/stats'))
  }

  /** Figures of a type, or of all types, over time. */
  async history(query: { range?: HistoryRange; type?: keyof H & string } = {}): Promise<History> {
    return historyOf(await call(this.#server, 'GET', `/stats/history?${new URLSearchParams({ ...query })}`))
  }

  /** The live workers of all processes. */
  async workers(): Promise<WorkerInfo[]> {
    return (await call<{ workers: object[] }>(this.#server, 'GET', '/workers')).workers.map(workerOf)
  }

  async #changeMany(change: 'cancel' | 'retry' | 'purge', { dryRun, ...filter }: ManyTasks<H>): Promise<number> {
    const body = { ...filterOf(filter), dry_run: dryRun }
    return (await call<{ count: number }>(this.#server, 'POST', `/tasks/${change}`, body)).count
  }
}

export interface ClientOptions {
  /** For a server with access control; default that of the environment, XQUEUE_KEY. */
  key?: string | undefined
  /** Makes the calls; default `node:http` on Node.js, unless the global `fetch` was adapted, and `fetch` elsewhere. */
  fetch?: typeof fetch | undefined
}

/** `createClient<typeof handlers>('http://localhost:8080')`: import the handlers as a type only. */
export function createClient<H extends Handlers>(
  server = 'http://127.0.0.1:8080',
  { key = keyOfEnvironment(), fetch }: ClientOptions = {},
): Client<H> {
  return new Client({ url: server, key: key ?? null, fetch })
}

function pathOf(id: string): string {
  return `/tasks/${encodeURIComponent(id)}`
}

/** Browsers have no environment, and Deno may refuse to read it. */
export function keyOfEnvironment(): string | undefined {
  try {
    return globalThis.process?.env?.XQUEUE_KEY
  } catch {
    return undefined
  }
}
