import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { setImmediate as tick } from 'node:timers/promises'
import { Worker as Thread } from 'node:worker_threads'
import type { Logger } from 'pino'
import { ENGINE_DEFAULTS, type Engine, type Lease, type TurnAnswer, type WorkerIdentity } from '../engine/engine.ts'
import type { Outcome } from '../task/outcome.ts'
import type { Progress } from '../task/task.ts'
import { Attempt, currentAttempt } from './attempt.ts'
import { announce, type RegisteredHandler } from './handlers.ts'
import { LeaseBoard } from './lease-board.ts'
import type { RenewalInput } from './renewal.ts'

export interface WorkerOptions {
  engine: Engine
  handlers: ReadonlyMap<string, RegisteredHandler>
  logger: Logger
  /** Tasks at once in this worker; default 10. */
  concurrency?: number
  /** How long a lease lives without renewal; default 30 s. */
  leaseMs?: number
  /** How long running tasks may take at `stop` before they go back to the queue; default 30 s. */
  shutdownMs?: number
  /** Told of each attempt that ended, for metrics. */
  onAttempt?: (attempt: { type: string; outcome: Outcome['kind']; waitMs: number; runMs: number }) => void
}

/** So many tasks make a second turn beside the first worth its while. */
const WANT_MIN = 25
const WAIT_MS = 5_000
/** Why a waiting turn is cut short; made once, because an abort without a reason builds an error with a stack. */
const SOMETHING_TO_REPORT = 'the worker has something to report'
const PROGRESS_EVERY_MS = 100
const RETRY_MS_MIN = 50
const RETRY_MS_MAX = 2_000

/**
 * Runs handlers. One loop: each turn reports what ended since the last, renews what progressed, and claims as many
 * tasks as there are free slots; while there are more tasks than that, another turn is under way beside it. A turn that
 * only waits is cut short as soon as something ends.
 *
 * States: new → running (start) → draining (stop: claims nothing, waits for what runs) → stopped. `stopNow` gives the
 * running tasks back at once. Nothing that ended is dropped while the engine is away: it is reported when it is back.
 */
export class Worker {
  readonly identity: WorkerIdentity
  readonly #options: WorkerOptions
  readonly #concurrency: number
  readonly #leaseMs: number
  readonly #board: LeaseBoard
  readonly #attempts = new Map<string, { attempt: Attempt; slot: number }>()
  #outcomes: { lease: string; outcome: Outcome }[] = []
  /** Tasks that turns under way have asked for. */
  #wanted = 0
  /** One turn asks for no more than this, so that another can be under way beside it. */
  readonly #wantMax: number
  #beside = 0
  readonly #progress = new Map<string, Progress>()
  #progressTimer: NodeJS.Timeout | undefined
  #wait: AbortController | undefined
  #state: 'new' | 'running' | 'draining' | 'stopped' = 'new'
  #loop: Promise<void> = Promise.resolve()
  #thread: Thread | undefined

  constructor(options: WorkerOptions) {
    this.#options = options
    this.#concurrency = options.concurrency ?? 10
    this.#leaseMs = options.leaseMs ?? ENGINE_DEFAULTS.leaseMs
    this.#wantMax = Math.max(Math.ceil(this.#concurrency / options.engine.turnsAtOnce), WANT_MIN)
    this.#board = new LeaseBoard(this.#concurrency)
    this.identity = {
      id: `${hostname()}-${process.pid}-${randomUUID().slice(0, 8)}`,
      host: hostname(),
      pid: process.pid,
      types: [...options.handlers.keys()],
      concurrency: this.#concurrency,
      startedAt: Date.now(),
    }
  }

  /** Makes its types known and starts to claim. */
  async start(): Promise<void> {
    await announce(this.#options.engine, this.#options.handlers)
    this.#state = 'running'
    this.#startRenewal()
    process.on('uncaughtException', this.#onStray)
    process.on('unhandledRejection', this.#onStray)
    this.#loop = this.#turns()
  }

  /** Claims no more, lets what runs finish for up to `shutdownMs`, and gives the rest back at no cost. */
  async stop(): Promise<void> {
    if (this.#state === 'running') this.#state = 'draining'
    this.#wait?.abort(SOMETHING_TO_REPORT)
    const release = setTimeout(() => this.#releaseAll(), this.#options.shutdownMs ?? 30_000)
    await this.#loop
    clearTimeout(release)
    process.off('uncaughtException', this.#onStray)
    process.off('unhandledRejection', this.#onStray)
    clearTimeout(this.#progressTimer)
    await this.#stopRenewal()
  }

  /** Gives everything that runs back at once. */
  async stopNow(): Promise<void> {
    if (this.#state === 'running') this.#state = 'draining'
    this.#releaseAll()
    await this.stop()
  }

  /** The loop: a turn after the other, each waiting until there is something to do. */
  async #turns(): Promise<void> {
    const { engine, logger } = this.#options
    let retryMs = RETRY_MS_MIN
    while (this.#state === 'running' || this.#attempts.size > 0 || this.#outcomes.length > 0 || this.#beside > 0) {
      try {
        await this.#turn(WAIT_MS)
        retryMs = RETRY_MS_MIN
      } catch (error) {
        logger.warn({ err: error, retry_ms: retryMs }, 'a turn failed; the worker tries again')
        await new Promise((resolve) => setTimeout(resolve, retryMs))
        retryMs = Math.min(retryMs * 2, RETRY_MS_MAX)
      }
    }
    this.#state = 'stopped'
    await engine.turn({ worker: this.identity, want: 0, leaving: true }).catch((error: unknown) => {
      logger.warn({ err: error }, 'the worker could not say good-bye; it will be forgotten by itself')
    })
  }

  /**
   * Turns beside the loop's, while there is more to claim than one turn brings: what one brought is run while the other
   * is under way.
   */
  async #turnsBeside(): Promise<void> {
    this.#beside += 1
    try {
      while (await this.#turn(0));
    } catch {
      // What it had to report stands again among the outcomes; the loop tells of the failure and tries again.
    } finally {
      this.#beside -= 1
    }
  }

  /** Reports, claims and starts; true when there is more to claim than it could take. */
  async #turn(waitMs: number): Promise<boolean> {
    const { engine } = this.#options
    const outcomes = this.#outcomes
    this.#outcomes = []
    const renewals = [...this.#progress].map(([lease, progress]) => ({ lease, progress }))
    this.#progress.clear()
    const free = this.#state === 'running' ? this.#concurrency - this.#attempts.size - this.#wanted : 0
    const want = Math.min(free, this.#wantMax)
    if (waitMs === 0 && want + outcomes.length === 0) return false
    const wait = new AbortController()
    if (waitMs > 0) this.#wait = wait
    const { identity: worker } = this
    this.#wanted += want
    try {
      const leaseMs = this.#leaseMs
      const answer = await engine.turn({ worker, outcomes, renewals, want, waitMs, signal: wait.signal, leaseMs })
      this.#wanted -= want
      this.#take(answer, outcomes)
      const more = want > 0 && answer.leases.length === want
      if (more && this.#beside === 0 && this.#wantMax < this.#concurrency) void this.#turnsBeside()
      // What ends at once, or in the same tick, is reported together, and without a wait that is cut short.
      if (this.#attempts.size > 0) await tick()
      return more
    } catch (error) {
      this.#wanted -= want
      this.#outcomes = [...outcomes, ...this.#outcomes]
      throw error
    }
  }

  #take(answer: TurnAnswer, outcomes: { lease: string; outcome: Outcome }[]): void {
    answer.settled.forEach(({ accepted }, index) => {
      const { lease, outcome } = outcomes[index]!
      if (!accepted) this.#options.logger.debug({ lease, outcome: outcome.kind }, 'an outcome came too late')
    })
    for (const lease of answer.leases) this.#start(lease)
    for (const lease of answer.cancelRequested) this.#attempts.get(lease)?.attempt.cancel()
  }

  #start(lease: Lease): void {
    const { handlers, logger, onAttempt } = this.#options
    const { type } = lease.task
    const ended = (outcome: Outcome) => {
      this.#forget(lease.lease)
      this.#outcomes.push({ lease: lease.lease, outcome })
      const waitMs = (lease.task.startedAt ?? attempt.startedAt) - lease.task.runAt
      onAttempt?.({ type, outcome: outcome.kind, waitMs, runMs: Date.now() - attempt.startedAt })
      setImmediate(() => this.#wait?.abort(SOMETHING_TO_REPORT))
    }
    const progressed = (value: Progress) => this.#report(lease.lease, value)
    const attempt = new Attempt({ lease, handler: handlers.get(type)!, logger, ended, progressed })
    this.#attempts.set(lease.lease, { attempt, slot: this.#board.add(lease.lease) })
    void attempt.run()
  }

  #forget(lease: string): void {
    const entry = this.#attempts.get(lease)
    if (!entry) return
    this.#attempts.delete(lease)
    this.#board.remove(entry.slot)
  }

  #report(lease: string, value: Progress): void {
    this.#progress.set(lease, value)
    this.#progressTimer ??= setTimeout(() => {
      this.#progressTimer = undefined
      this.#wait?.abort(SOMETHING_TO_REPORT)
    }, PROGRESS_EVERY_MS)
  }

  #releaseAll(): void {
    for (const { attempt } of [...this.#attempts.values()]) attempt.release()
    this.#wait?.abort(SOMETHING_TO_REPORT)
  }

  /** An exception or rejection that nobody caught: of an attempt, it fails that one; else it is a crash as ever. */
  readonly #onStray = (error: unknown): void => {
    const attempt = currentAttempt()
    if (!attempt) {
      this.#options.logger.fatal({ err: error }, 'an exception outside any handler')
      process.exitCode = 1
      setImmediate(() => process.exit(1))
      return
    }
    this.#options.logger.warn({ err: error, task_id: attempt.lease.task.id }, 'a handler threw outside its promise')
    attempt.fail(error)
  }

  /** Waits for the end of its thread, which has the store open as well. */
  async #stopRenewal(): Promise<void> {
    const thread = this.#thread
    if (!thread) return
    thread.ref()
    const ended = new Promise((resolve) => thread.once('exit', resolve))
    thread.postMessage('stop')
    await ended
  }

  #startRenewal(): void {
    const { engine, logger } = this.#options
    const workerData: RenewalInput = {
      engineUrl: engine.url,
      worker: this.identity,
      board: this.#board.memory,
      leaseMs: this.#leaseMs,
    }
    const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
    const thread = new Thread(new URL(`../renewal-thread.${extension}`, import.meta.url), { workerData })
    thread.unref()
    thread.on('message', (lost: string[]) => {
      for (const lease of lost) {
        const entry = this.#attempts.get(lease)
        if (!entry) continue
        this.#forget(lease)
        entry.attempt.abandon()
        logger.warn({ lease }, 'a lease was lost: its task was ended or handed out again')
      }
      this.#wait?.abort(SOMETHING_TO_REPORT)
    })
    thread.on('error', (error) => {
      logger.error({ err: error }, 'the renewal thread failed; another one starts')
      if (this.#state === 'running' || this.#state === 'draining') this.#startRenewal()
    })
    thread.once('exit', () => {
      if (this.#thread === thread) this.#thread = undefined
    })
    this.#thread = thread
  }
}
