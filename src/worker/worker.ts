import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { setImmediate as tick } from 'node:timers/promises'
import { type Lease, QUEUE_DEFAULTS, type Turn, type TurnAnswer, type WorkerIdentity } from '../queue/queue.ts'
import type { JsonText } from '../task/json.ts'
import { type Outcome, refusedOutcome } from '../task/outcome.ts'
import { describeError } from '../task/thrown.ts'
import { pause } from '../task/time.ts'
import { TransientMap } from '../task/transient-map.ts'
import { Attempt, type AttemptHost } from './attempt.ts'
import { Deadlines } from './deadlines.ts'
import { announce } from './handlers.ts'
import { Prefetch } from './prefetch.ts'
import { PROCESS, type Runtime } from './runtime.ts'
import { HeldLease, SharedLeases } from './shared-leases.ts'
import { UnsentLogs } from './task-log.ts'
import { isPassing } from './task-source.ts'
import type { WorkerOptions } from './worker-options.ts'

/** Number of tasks that justifies a second concurrent turn. */
const WANT_MIN = 25
const WAIT_MS = 5_000
/** Abort reason of a waiting turn; shared, because an abort without a reason creates an error with a stack. */
const SOMETHING_TO_REPORT = 'the worker has something to report'
/** A task claimed ahead is released if it has not started by then, because the slots are occupied. */
const AHEAD_MS_MAX = 20
const PROGRESS_EVERY_MS = 100
const RETRY_MS_MIN = 50
const RETRY_MS_MAX = 2_000
/** Number of times that a refused outcome is sent; the last time as a failure. */
const TRIES_MAX = 4

type Reported = NonNullable<Turn['outcomes']>[number]

/**
 * Runs handlers in one loop. Each turn reports ended attempts, sends progress, and claims tasks for the free slots, and
 * some ahead if handlers end at once. With more tasks than that, another turn runs concurrently. A turn that only waits
 * is aborted when an attempt ends.
 *
 * States: new → running (start) → draining (stop: claims nothing, waits for running tasks) → stopped. `stopNow`
 * releases running tasks at once. Outcomes are kept while the store is unavailable and reported when it is back.
 */
export class Worker {
  readonly identity: WorkerIdentity
  readonly #options: WorkerOptions
  readonly #runtime: Runtime
  readonly #concurrency: number
  readonly #leaseMs: number
  readonly #board: SharedLeases
  /** Held leases: their slot, and their attempt when it runs. */
  readonly #held = new TransientMap<{ slot: number; attempt: Attempt | null }>()
  /** Held, and waiting for a slot. */
  readonly #ahead: Lease[] = []
  #callOffCheck: (() => void) | undefined
  #running = 0
  /** Number of attempts. */
  #ended = 0
  readonly #prefetch: Prefetch
  #outcomes: Reported[] = []
  /** Number of tasks requested by pending turns. */
  #wanted = 0
  #beside = 0
  /** The latest unsent progress of each attempt. */
  readonly #progress = new Map<string, number | JsonText>()
  #isProgressDue = false
  #callOffProgress: (() => void) | undefined
  readonly #logs: UnsentLogs
  readonly #deadlines: Deadlines
  readonly #host: AttemptHost
  #wait: AbortController | undefined
  #state: 'new' | 'running' | 'draining' | 'stopped' = 'new'
  #loop: Promise<void> = Promise.resolve()
  #stopRenewal: () => Promise<void> = async () => undefined
  #ignoreUncaught: () => void = () => undefined

  constructor(options: WorkerOptions) {
    this.#options = options
    this.#runtime = options.runtime ?? PROCESS
    this.#concurrency = options.concurrency ?? 10
    this.#leaseMs = options.leaseMs ?? QUEUE_DEFAULTS.leaseMs
    const claimAhead = options.claimAhead ?? 128
    this.#prefetch = new Prefetch(this.#concurrency, claimAhead)
    this.#board = new SharedLeases(this.#concurrency + claimAhead)
    this.#logs = new UnsentLogs(this.#runtime.time.after, () => this.#wait?.abort(SOMETHING_TO_REPORT))
    this.#deadlines = new Deadlines(this.#runtime.time, () => this.#held.values().map(({ attempt }) => attempt))
    this.#host = this.#hostOfAttempts(options)
    this.identity = {
      id: options.id ?? `${hostname()}-${process.pid}-${randomUUID().slice(0, 8)}`,
      host: hostname(),
      pid: process.pid,
      types: [...options.handlers.keys()],
      concurrency: this.#concurrency,
      startedAt: this.#runtime.time.now(),
    }
  }

  /** Registers the types and starts to claim. */
  async start(): Promise<void> {
    await announce(this.#options.queue, this.#options.handlers)
    this.#state = 'running'
    this.#startRenewal()
    this.#ignoreUncaught = this.#runtime.catchUncaught(this.#options.logger)
    this.#loop = this.#turns()
  }

  /** Claims no more, lets running tasks finish for up to `shutdownMs`, and releases the rest at no cost. */
  async stop(): Promise<void> {
    if (this.#state === 'running') this.#state = 'draining'
    this.#releaseAhead()
    this.#wait?.abort(SOMETHING_TO_REPORT)
    const callOffRelease = this.#runtime.time.after(this.#options.shutdownMs ?? 30_000, () => this.#releaseAll())
    await this.#loop
    callOffRelease()
    this.#ignoreUncaught()
    this.#callOffProgress?.()
    this.#logs.close()
    this.#callOffCheck?.()
    this.#deadlines.close()
    await this.#stopRenewal()
  }

  /** Releases all running tasks at once. */
  async stopNow(): Promise<void> {
    if (this.#state === 'running') this.#state = 'draining'
    this.#releaseAll()
    await this.stop()
  }

  /** The loop: one turn after another; each waits until there is work. */
  async #turns(): Promise<void> {
    const { queue, logger } = this.#options
    let retryMs = RETRY_MS_MIN
    while (this.#state === 'running' || this.#held.size > 0 || this.#outcomes.length > 0 || this.#beside > 0) {
      try {
        await this.#turn(WAIT_MS)
        retryMs = RETRY_MS_MIN
      } catch (error) {
        logger.warn({ err: error, retry_ms: retryMs }, 'a turn failed; the worker will retry')
        await pause(retryMs, this.#runtime.time.after)
        retryMs = Math.min(retryMs * 2, RETRY_MS_MAX)
      }
    }
    this.#state = 'stopped'
    await queue.turn({ worker: this.identity, want: 0, leaving: true }).catch((error: unknown) => {
      logger.warn({ err: error }, 'the worker could not sign off; its entry will expire')
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
      // Its outcomes are queued again; the loop logs the failure and retries.
    } finally {
      this.#beside -= 1
    }
  }

  /** Reports, claims and starts; true if more tasks are ready. */
  async #turn(waitMs: number): Promise<boolean> {
    const { queue } = this.#options
    const outcomes = this.#outcomes
    const room = this.#concurrency + this.#prefetch.ahead()
    // One turn requests only a part, so that another one can run concurrently.
    const wantMax = Math.max(Math.ceil(room / queue.turnsAtOnce), WANT_MIN)
    const free = this.#state === 'running' ? Math.max(room - this.#held.size - this.#wanted, 0) : 0
    const want = Math.min(free, wantMax)
    if (waitMs === 0 && want + outcomes.length === 0) return false
    this.#outcomes = []
    const renewals = this.#takeProgress(outcomes)
    const logs = this.#logs.take(outcomes)
    const wait = new AbortController()
    if (waitMs > 0) this.#wait = wait
    this.#wanted += want
    try {
      const [worker, leaseMs] = [this.identity, this.#leaseMs]
      const answer = await queue.turn({ worker, outcomes, renewals, logs, want, waitMs, signal: wait.signal, leaseMs })
      this.#wanted -= want
      this.#take(answer, outcomes)
      const more = want > 0 && answer.leases.length === want
      if (more && this.#beside === 0 && wantMax < room) void this.#turnsBeside()
      // Attempts that end in the same tick are reported together, without aborting a wait.
      if (this.#held.size > 0) await tick()
      return more
    } catch (error) {
      this.#wanted -= want
      if (isPassing(error)) {
        this.#outcomes = [...outcomes, ...this.#outcomes]
        this.#logs.restore(logs)
        for (const { lease, progress } of renewals) if (!this.#progress.has(lease)) this.#report(lease, progress)
      } else await this.#reportApart(outcomes)
      throw error
    }
  }

  /** Sends outcomes separately, because a refused one must not prevent the others. */
  async #reportApart(outcomes: readonly Reported[]): Promise<void> {
    for (const [index, reported] of outcomes.entries()) {
      try {
        await this.#reportAlone(reported)
      } catch {
        // The store is unavailable: the rest is reported when it is back.
        this.#outcomes = [...outcomes.slice(index), ...this.#outcomes]
        return
      }
    }
  }

  /** A repeatedly refused outcome becomes a failure with the reason. */
  async #reportAlone({ lease, outcome }: Reported): Promise<void> {
    const { queue, logger } = this.#options
    let refusal: unknown
    for (let tries = 1; tries <= TRIES_MAX; tries++) {
      const told = tries < TRIES_MAX ? outcome : refusedOutcome(describeError(refusal))
      try {
        const outcomes = [{ lease, outcome: told }]
        this.#take(await queue.turn({ worker: this.identity, want: 0, outcomes }), outcomes)
        return
      } catch (error) {
        if (isPassing(error)) throw error
        refusal = error
        await pause(RETRY_MS_MIN, this.#runtime.time.after)
      }
    }
    logger.error({ err: refusal, lease }, 'the store refused an outcome, and the failure in its place as well')
  }

  /** The progress to send, without that of ended attempts. */
  #takeProgress(outcomes: readonly Reported[]): { lease: string; progress: number | JsonText }[] {
    if (this.#progress.size === 0) return []
    const leases = this.#isProgressDue ? [...this.#progress.keys()] : outcomes.map(({ lease }) => lease)
    this.#isProgressDue = false
    return leases.flatMap((lease) => {
      const progress = this.#progress.get(lease)
      this.#progress.delete(lease)
      return progress === undefined ? [] : [{ lease, progress }]
    })
  }

  #take(answer: TurnAnswer, outcomes: readonly Reported[]): void {
    answer.settled.forEach(({ accepted }, index) => {
      const { lease, outcome } = outcomes[index]!
      if (!accepted) this.#options.logger.debug({ lease, outcome: outcome.kind }, 'an outcome was too late')
    })
    for (const lease of answer.leases) this.#start(lease)
    for (const lease of answer.cancelRequested) this.#cancel(lease)
  }

  /** Runs the task in a free slot, or when one becomes free. */
  #start(lease: Lease): void {
    // If the process stood still before it read the answer, another worker may have the task.
    if (this.#state !== 'running' || lease.expiresAt <= this.#runtime.time.now()) {
      this.#settle(lease.lease, { kind: 'released' })
      return
    }
    this.#held.set(lease.lease, { slot: this.#board.add(lease.lease, lease.expiresAt), attempt: null })
    if (this.#running < this.#concurrency) this.#run(lease)
    else {
      this.#ahead.push(lease)
      if (!this.#callOffCheck) this.#checkSoon()
    }
  }

  #run(lease: Lease): void {
    const handler = this.#options.handlers.get(lease.task.type)!
    const holder = this.#held.get(lease.lease)!
    const attempt = new Attempt(this.#host, handler, lease, holder.slot)
    holder.attempt = attempt
    this.#running += 1
    if (lease.deadlineAt !== null) this.#deadlines.add(lease.deadlineAt)
    void attempt.run()
  }

  #hostOfAttempts({ queue, logger, keepsLogs = true }: WorkerOptions): AttemptHost {
    const { time } = this.#runtime
    const { memory } = this.#board
    return {
      logger,
      time,
      held: ({ lease: { lease, task }, slot }) => {
        return new HeldLease({ fence: task.deliveries, memory, place: { slot, lease } }, time.now)
      },
      ended: (attempt, outcome) => this.#endedAs(attempt, outcome),
      progressed: ({ lease: { lease } }, value) => this.#report(lease, value),
      logged: keepsLogs ? ({ lease: { lease } }, line) => this.#logs.add(lease, line) : undefined,
      read: ({ lease: { lease } }, id) => queue.predecessor(lease, id),
    }
  }

  #endedAs({ lease: { lease, task }, startedAt, since }: Attempt, outcome: Outcome): void {
    const { type } = task
    const runMs = this.#runtime.time.elapsed() - since
    this.#running -= 1
    this.#ended += 1
    this.#prefetch.ended(runMs)
    this.#settle(lease, outcome)
    // What was claimed ahead may not start either.
    if (outcome.kind === 'held') this.#releaseAhead((ahead) => ahead.task.type === type)
    const waitMs = (task.startedAt ?? startedAt) - task.runAt
    this.#options.onAttempt?.({ type, outcome: outcome.kind, waitMs, runMs })
    this.#runAhead()
  }

  /** A slot became free. */
  #runAhead(): void {
    const next = this.#ahead.shift()
    if (next) this.#run(next)
  }

  /** Releases waiting tasks if no attempt has ended since the last check. */
  #checkSoon(): void {
    const endedBefore = this.#ended
    this.#callOffCheck = this.#runtime.time.after(AHEAD_MS_MAX, () => {
      this.#callOffCheck = undefined
      if (this.#ahead.length === 0) return
      if (this.#ended === endedBefore) this.#releaseAhead()
      else this.#checkSoon()
    })
  }

  #releaseAhead(which: (ahead: Lease) => boolean = () => true): void {
    this.#prefetch.slow()
    for (const ahead of this.#ahead.splice(0)) {
      if (which(ahead)) this.#settle(ahead.lease, { kind: 'released' })
      else this.#ahead.push(ahead)
    }
  }

  #cancel(lease: string): void {
    const attempt = this.#held.get(lease)?.attempt
    if (attempt) attempt.cancel()
    // A canceled task that has not started ends as canceled when it is released.
    const place = this.#ahead.findIndex((ahead) => ahead.lease === lease)
    if (place < 0) return
    this.#ahead.splice(place, 1)
    this.#settle(lease, { kind: 'released' })
  }

  #settle(lease: string, outcome: Outcome): void {
    this.#forget(lease)
    this.#outcomes.push({ lease, outcome })
    if (this.#outcomes.length === 1) setImmediate(() => this.#wait?.abort(SOMETHING_TO_REPORT))
  }

  #forget(lease: string): Attempt | null {
    const held = this.#held.take(lease)
    if (!held) return null
    this.#board.remove(held.slot)
    return held.attempt
  }

  #report(lease: string, value: number | JsonText): void {
    this.#progress.set(lease, value)
    this.#callOffProgress ??= this.#runtime.time.after(PROGRESS_EVERY_MS, () => {
      this.#callOffProgress = undefined
      this.#isProgressDue = true
      this.#wait?.abort(SOMETHING_TO_REPORT)
    })
  }

  #releaseAll(): void {
    this.#releaseAhead()
    for (const { attempt } of this.#held.values()) attempt?.release()
    this.#wait?.abort(SOMETHING_TO_REPORT)
  }

  /** A lease is lost: nothing is reported for it. */
  #abandon(lease: string): void {
    this.#logs.forget(lease)
    const attempt = this.#forget(lease)
    if (attempt) {
      attempt.abandon()
      this.#running -= 1
      this.#runAhead()
    } else {
      const place = this.#ahead.findIndex((ahead) => ahead.lease === lease)
      this.#ahead.splice(place, 1)
    }
  }

  #startRenewal(): void {
    const { queue, logger } = this.#options
    this.#stopRenewal = this.#runtime.renew({
      queue,
      engineUrl: queue.url,
      key: queue.key,
      worker: this.identity,
      board: this.#board.memory,
      leaseMs: this.#leaseMs,
      logger,
      lost: (leases) => {
        for (const lease of leases) {
          if (!this.#held.get(lease)) continue
          this.#abandon(lease)
          logger.warn({ lease }, 'a lease was lost: its task has ended or was handed out again')
        }
        this.#wait?.abort(SOMETHING_TO_REPORT)
      },
    })
  }
}
