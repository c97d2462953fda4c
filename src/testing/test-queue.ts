import { pino } from 'pino'
import type { TaskOf } from '../client/client.ts'
import type { TaskChange } from '../client/event-stream.ts'
import { TaskUnsuccessful } from '../client/result.ts'
import { inputOf, type SubmitOptions } from '../client/submission.ts'
import { openQueue } from '../queue/open.ts'
import type { Queue } from '../queue/queue.ts'
import { parseDurationMs } from '../task/duration.ts'
import { type FieldError, XQueueError } from '../task/errors.ts'
import type { TaskEvent } from '../task/event.ts'
import { specOf, type TaskInput, throwErrors } from '../task/task-input.ts'
import { type TaskView, viewOf } from '../task/task-view.ts'
import type { Duration, Handlers, PayloadOf, ResultOf } from '../worker/handler.ts'
import { checkPayload, normalizeHandlers, type RegisteredHandler } from '../worker/handlers.ts'
import { Worker } from '../worker/worker.ts'
import { CrashableRuntime } from './crashable-runtime.ts'
import type { Interceptor } from './interceptor.ts'
import { Running } from './running.ts'
import { VirtualTime } from './virtual-time.ts'

export interface TestQueueOptions {
  /** Where the clock starts; default now. */
  startAt?: Date
  /** Workers at the start; default 1. */
  workers?: number
  /** Tasks at once in each worker; default 10. */
  concurrency?: number
  /** 0 ≤ x < 1, draws the jitter of retries; default always 0, which means none. */
  random?: () => number
  /** How long a handler may take in real time before `runUntilIdle` gives up on it; default 5 s. */
  patience?: Duration
}

/** What a call meets while the engine fails: nothing was changed; or it was, and the answer is lost. */
export type EngineFailure = 'before' | 'after'

const SWEEP_MAX = 1_000
/** Of a page of what waits: enough to see whether anything of it will start by itself. */
const LOOK_MAX = 100
const PATIENCE = '5s'

/**
 * A queue for tests of your handlers: the real engine in memory and real workers, with a clock that the test moves.
 * `createTestQueue` creates one.
 */
export class TestQueue<H extends Handlers> implements AsyncDisposable {
  readonly #engine: Queue
  readonly #time: VirtualTime
  readonly #handlers: ReadonlyMap<string, RegisteredHandler>
  readonly #options: TestQueueOptions
  readonly #running: Running
  readonly #workers: { worker: Worker; runtime: CrashableRuntime }[] = []
  #failure: EngineFailure | null = null

  static async open<H extends Handlers>(handlers: H, options: TestQueueOptions): Promise<TestQueue<H>> {
    const time = new VirtualTime((options.startAt ?? new Date()).getTime())
    const random = options.random ?? (() => 0)
    const engine = await openQueue('sqlite::memory:', { clock: time.now, after: time.after, random })
    const queue = new TestQueue(engine, time, handlers, options)
    for (let started = 0; started < (options.workers ?? 1); started++) await queue.startWorker()
    return queue
  }

  private constructor(engine: Queue, time: VirtualTime, handlers: H, options: TestQueueOptions) {
    this.#engine = engine
    this.#time = time
    this.#options = options
    this.#running = new Running(parseDurationMs(options.patience ?? PATIENCE))
    this.#handlers = this.#running.watched(normalizeHandlers(handlers))
  }

  /** The time of the queue. */
  now(): Date {
    return new Date(this.#time.now())
  }

  /** @throws XQueueError what the server would answer: `invalid_payload`, `unknown_type`, … */
  async submit<Type extends keyof H & string>(
    type: Type,
    payload: PayloadOf<H, Type>,
    options: SubmitOptions = {},
  ): Promise<TaskOf<H, Type>> {
    const errors: FieldError[] = []
    const handler = this.#handlers.get(type)
    const check = (given: never) => checkPayload(handler!, given)
    const known = handler && { defaults: handler.defaults, ceilings: {}, check, usesOf: handler.usesOf }
    // As it travels: what JSON does to a payload, it does here too.
    const input = JSON.parse(JSON.stringify(inputOf({ ...options, type, payload }))) as TaskInput
    const spec = await specOf(input, known ?? null, '', errors)
    throwErrors(errors)
    const [submitted] = await this.#interceptor('submit', () => this.#engine.submit([spec]))
    return viewOf(submitted!.task) as never
  }

  /** @throws XQueueError `not_found` */
  async get<Type extends keyof H & string>(task: string | TaskOf<H, Type>): Promise<TaskOf<H, Type>> {
    const id = idOf(task)
    const [found] = await this.#engine.get([id])
    if (!found)
      throw new XQueueError('not_found', `task ${id} not found: it may have been deleted after its retention time`)
    return viewOf(found) as never
  }

  /**
   * What its handler returned.
   * @throws TaskUnsuccessful when it ended in anything but success, or has not ended
   */
  async result<Type extends keyof H & string>(task: string | TaskOf<H, Type>): Promise<ResultOf<H, Type>> {
    const now = await this.get(task)
    if (now.status !== 'success') throw new TaskUnsuccessful(now as TaskView)
    return now.result as never
  }

  /** Cancels a waiting task at once, and asks a running one to stop. */
  async cancel(task: string | { id: string }): Promise<void> {
    const [result] = (await this.#engine.cancel({ ids: [idOf(task)] })).results
    if (result!.outcome === 'refused') throw new XQueueError('task_finished', `task ${idOf(task)} has finished`)
    await this.#time.settle()
  }

  /** Runs a failed, canceled or timed-out task again. */
  async retry(task: string | { id: string }): Promise<void> {
    const [result] = (await this.#engine.retry({ ids: [idOf(task)] })).results
    if (result!.outcome !== 'changed')
      throw new XQueueError('task_not_retryable', `task ${idOf(task)} cannot be retried`)
  }

  /** Erases a finished task. */
  async delete(task: string | { id: string }): Promise<void> {
    const [result] = (await this.#engine.erase([idOf(task)])).results
    if (result!.outcome === 'refused') throw new XQueueError('task_not_finished', `task ${idOf(task)} has not finished`)
  }

  /** Paused types accept tasks and start none. */
  async pause(type: keyof H & string, paused = true): Promise<void> {
    await this.#engine.configureType(type, { paused })
  }

  /** Every change so far, oldest first; of one task, or of all. */
  async history(task?: string | { id: string }): Promise<TaskChange[]> {
    const events: TaskEvent[] = []
    for (let after = ''; ; ) {
      const page = await this.#engine.events({ after, max: SWEEP_MAX })
      if (page.events.length === 0) break
      events.push(...page.events.filter(({ kind }) => kind !== 'removed'))
      after = page.last
    }
    const changes = events.map(({ id, kind: _, at, ...change }) => ({
      eventId: id,
      ...change,
      timestamp: new Date(at),
    }))
    return task === undefined ? changes : changes.filter(({ taskId }) => taskId === idOf(task))
  }

  /**
   * Passes so much time, and does what becomes due on the way, each at its moment. Handlers that run are not waited
   * for: one that hangs runs out of its time.
   */
  async advance(duration: Duration): Promise<void> {
    const end = this.#time.elapsed() + parseDurationMs(duration)
    await this.#sweep()
    for (;;) {
      const left = end - this.#time.elapsed()
      const next = Math.min(this.#time.untilNext(), await this.#untilDue())
      if (next > left) {
        await this.#time.pass(left)
        return
      }
      await this.#move(next)
    }
  }

  /**
   * Runs all that there is, and moves the clock to whatever comes next, until nothing runs and nothing would start by
   * itself: a paused type's tasks stay, and so do all when no worker is left.
   * @throws Error naming the handler that has not ended after `patience` of real time; XQueueError
   *   `engine_unavailable` while the engine fails, for then nothing would ever be idle
   */
  async runUntilIdle(): Promise<void> {
    if (this.#failure !== null) throw unreachable()
    for (;;) {
      await this.#sweep()
      if (await this.#running.ended()) continue
      if (await this.#isIdle()) return
      const next = Math.min(this.#time.untilNext(), await this.#untilDue())
      if (next === Number.POSITIVE_INFINITY) return
      await this.#move(next)
    }
  }

  /**
   * Loses a worker, as if its process were killed: its tasks run again when their leases are over. Handlers that run
   * go on unheard. Without a replacement (`startWorker`), nothing runs if it was the last one.
   */
  loseWorker(): void {
    const lost = this.#workers.shift()
    if (!lost) throw new Error('no worker is left to lose: start one with startWorker()')
    lost.runtime.lose()
    this.#running.forget(lost.worker.identity.id)
  }

  /** @throws XQueueError `engine_unavailable` while the engine fails */
  async startWorker(): Promise<void> {
    const runtime = new CrashableRuntime(this.#engine, this.#time, this.#interceptor)
    const { concurrency } = this.#options
    const worker = new Worker({
      queue: runtime.queue,
      handlers: this.#handlers,
      logger: pino({ level: 'silent' }),
      claimAhead: 0,
      runtime,
      ...(concurrency === undefined ? {} : { concurrency }),
    })
    await worker.start()
    this.#workers.push({ worker, runtime })
    await this.#time.settle()
  }

  /** From now on the engine cannot be reached, until `restoreEngine`: submissions are refused, workers try again. */
  failEngine(failure: EngineFailure = 'before'): void {
    this.#failure = failure
  }

  restoreEngine(): void {
    this.#failure = null
  }

  async close(): Promise<void> {
    for (const { runtime } of this.#workers) runtime.lose()
    await this.#engine.close()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  /** Workers and submissions go this way; what the test itself asks does not. */
  readonly #interceptor: Interceptor = async (_verb, call) => {
    if (this.#failure === 'before') throw unreachable()
    const answer = await call()
    // Nor is a turn answered that began to wait before the engine failed.
    if (this.#failure !== null) throw unreachable()
    return answer
  }

  async #move(ms: number): Promise<void> {
    if (this.#time.untilNext() <= ms) await this.#time.step()
    else await this.#time.pass(ms)
    await this.#sweep()
  }

  async #sweep(): Promise<void> {
    while ((await this.#engine.sweep(SWEEP_MAX)).more);
    await this.#time.settle()
  }

  async #untilDue(): Promise<number> {
    const { nextAt } = await this.#engine.sweep(SWEEP_MAX)
    return nextAt === null ? Number.POSITIVE_INFINITY : Math.max(nextAt - this.#time.now(), 1)
  }

  async #isIdle(): Promise<boolean> {
    const { counts } = await this.#engine.stats()
    if (counts.processing > 0) return false
    if (counts.pending === 0) return true
    const { tasks } = await this.#engine.list({ status: 'pending', limit: LOOK_MAX })
    const reasons = await Promise.all(tasks.map(async ({ id }) => (await this.#engine.explain(id))?.reason))
    // Tasks that wait for others start when those end, so only those are checked. A worker that was disconnected
    // for long may count as gone, and comes back.
    const stays = (reason?: string) =>
      reason === 'paused' || reason === 'waits_for_tasks' || (reason === 'no_worker' && this.#workers.length === 0)
    return reasons.every(stays)
  }
}

/** A queue for your handlers, to test them with: see `TestQueue`. */
export function createTestQueue<H extends Handlers>(
  handlers: H,
  options: TestQueueOptions = {},
): Promise<TestQueue<H>> {
  return TestQueue.open(handlers, options)
}

function idOf(task: string | { id: string }): string {
  return typeof task === 'string' ? task : task.id
}

function unreachable(): XQueueError {
  return new XQueueError('engine_unavailable', 'the test has failed the engine: call restoreEngine()')
}
