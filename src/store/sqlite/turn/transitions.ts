import type { Predecessor } from '../../../task/flow.ts'
import { type JsonText, textOf } from '../../../task/json.ts'
import {
  dueEnding,
  type Ending,
  type Outcome,
  type Settlement,
  type SettlePolicy,
  settle,
  WAITED_TOO_LONG,
} from '../../../task/outcome.ts'
import { keepPayloadText } from '../../../task/payload-text.ts'
import { isFinal, RETRYABLE_STATUSES, type Status } from '../../../task/status.ts'
import type { Progress } from '../../../task/task.ts'
import { TransientMap } from '../../../task/transient-map.ts'
import { NO_USES, type Uses } from '../../../task/uses.ts'
import { leaseSecret } from '../../lease-secret.ts'
import { FOLLOWED_MAX } from '../../options.ts'
import type { ChangeOutcome, Lease, Renewed, Settled, StoreOptions, Turn } from '../../store.ts'
import type { Value } from '../database/database.ts'
import type { Tx } from '../database/writer.ts'
import type { Decided, Ended, Flows } from '../flows/flows.ts'
import type { Limits } from '../limits/limits.ts'
import type { Parts } from '../parts.ts'
import type { Attempts } from '../records/attempts.ts'
import { eventBody, startedOf, stateOf, type TaskState, tokenOf } from '../records/rows.ts'
import type { Rates } from '../types/rates.ts'
import type { Registry } from '../types/types.ts'
import { type GroupScheduler, readyOf } from './group-scheduler.ts'
import type { Planner } from './planner.ts'
import type { RateLog } from './rate-log.ts'

/** Maximum number of delayed tasks promoted, and of waits ended, before each claim; a sweep does the rest. */
const DUE_BATCH = 1_000
const CLAIM_PASSES = 5
/** Passes of one claim in which limits let further lanes start. */
const LIMIT_PASSES = 1_000
const STARTED_MAX = 100_000
const NONE: readonly Predecessor[] = []

/** Every change of a task between its submission and its removal, each inside the transaction that is passed in. */
export class Transitions {
  readonly #registry: Registry
  readonly #rates: Rates
  readonly #groups: GroupScheduler
  readonly #limits: Limits
  readonly #planner: Planner
  readonly #rateLog: RateLog
  readonly #flows: Flows
  readonly #attempts: Attempts
  readonly #options: StoreOptions
  /** Ended tasks whose successors have not been notified yet. */
  readonly #ended: Ended[] = []
  #isFollowing = false
  /** The tasks that this process started, by token: settling need not read them again, and detects later changes. */
  readonly #started = new TransientMap<TaskState>()

  constructor(parts: Parts) {
    this.#attempts = parts.attempts
    this.#flows = parts.flows
    this.#registry = parts.registry
    this.#rates = parts.rates
    this.#groups = parts.groups
    this.#limits = parts.limits
    this.#planner = parts.planner
    this.#rateLog = parts.rateLog
    this.#options = parts.options
  }

  /** After a rollback, nothing that was cached in memory is valid. */
  forget(): void {
    this.#started.clear()
    this.#ended.length = 0
    this.#flows.forget()
  }

  /** Makes delayed tasks ready when their time has come; returns how many. */
  promote(tx: Tx, max = DUE_BATCH): number {
    this.#limits.wake(tx)
    if (tx.due.readyAt() > tx.now) return 0
    tx.due.forget()
    const due = tx.database.all('due', tx.now, max)
    for (const row of due) {
      const { type } = row
      tx.database.run('promote', row.seq!)
      this.#groups.becameReady(readyOf(row))
      tx.count(type as string, 'delayed', -1)
      tx.count(type as string, 'pending', 1)
      tx.touchedTypes.add(type as string)
    }
    return due.length
  }

  /** Ends tasks that waited too long for their first start; returns how many. */
  endWaits(tx: Tx, max = DUE_BATCH): number {
    if (tx.due.waitEndsAt() > tx.now) return 0
    tx.due.forget()
    const due = tx.database.all('waitedTooLong', tx.now, max)
    for (const state of statesOf(tx, due)) this.#endWait(tx, state)
    return due.length
  }

  /** Claims tasks as `Store.turn` specifies. */
  claim(tx: Tx, turn: Turn): Lease[] {
    const leases: Lease[] = []
    if (turn.want <= 0 || turn.leaving) return leases
    const types = (turn.types ?? turn.worker.types).filter((type) => this.#registry.isOpen(type, tx.now))
    // Tasks that waited too long block others only until they are ended; if there are very many, a sweep continues.
    for (let passes = 0, isAgain = true; isAgain && passes < LIMIT_PASSES; passes++) {
      const ended = this.endWaits(tx)
      this.#limits.wake(tx)
      const want = turn.want - leases.length
      const { seqs, isCut, checked } = this.#planner.plan(tx.database, types, want, tx.now, turn.groups)
      leases.push(...this.#start(tx, seqs, turn))
      // A lane may have left units of a limit that was checked, so others can have them.
      for (const name of checked) tx.freedLimits.add(name)
      if (leases.length === turn.want) break
      isAgain = this.#limits.wake(tx) || isCut || (ended === DUE_BATCH && passes < CLAIM_PASSES)
    }
    return leases
  }

  /** Settles leases; one answer each, in order. */
  settle(tx: Tx, outcomes: readonly { lease: string; outcome: Outcome }[]): Settled[] {
    const unknown = outcomes.filter(({ lease }) => !this.#started.get(lease))
    const held = this.#held(tx, unknown)
    return outcomes.map(({ lease, outcome }) => {
      const state = this.#started.take(lease) ?? held.get(lease)
      held.delete(lease)
      const status = state && (this.#end(tx, state, outcome) ?? this.#endAgain(tx, lease, outcome))
      if (!status) return { accepted: false, status: null }
      return { accepted: outcome.kind !== 'success' || status === 'success', status }
    })
  }

  /** Renews leases; one answer each, in order. */
  renew(tx: Tx, renewals: readonly { lease: string; progress?: Progress | JsonText }[]): (Renewed | null)[] {
    const held = this.#held(tx, renewals)
    return renewals.map(({ lease, progress }) => {
      const state = held.get(lease)
      if (!state) return null
      const expiresAt = tx.now + state.leaseMs!
      tx.database.run('renewLease', expiresAt, state.seq)
      if (progress !== undefined) this.#report(tx, state, textOf(progress))
      return { expiresAt, cancelRequested: state.cancelRequested }
    })
  }

  /** Leases of a worker that it has not yet been asked to stop. */
  tellCancels(tx: Tx, workerId: string): string[] {
    return statesOf(tx, tx.database.all('untoldCancels', workerId)).map((state) => {
      tx.database.run('cancelTold', state.seq)
      return tokenOf(state)
    })
  }

  /** Cancels or retries tasks; one answer each, in order. */
  change(tx: Tx, change: 'cancel' | 'retry', ids: readonly string[]): ChangeOutcome[] {
    const outcomes = new Map<string, ChangeOutcome>()
    for (const values of tx.database.arrays('statesById', JSON.stringify(ids))) {
      const state = stateOf(values)
      outcomes.set(state.id, change === 'cancel' ? this.#cancel(tx, state) : this.#retry(tx, state))
    }
    return ids.map((id) => outcomes.get(id) ?? 'unknown')
  }

  #cancel(tx: Tx, state: TaskState): ChangeOutcome {
    if (state.status === 'processing') {
      tx.database.run('requestCancel', tx.now, state.seq)
      tx.canceledWorkers.add(state.workerId!)
      return 'stopping'
    }
    if (isFinal(state.status as Status)) return 'refused'
    this.#finish(tx, state, { ...unchanged(state), status: 'canceled' })
    return 'changed'
  }

  #retry(tx: Tx, state: TaskState): ChangeOutcome {
    const { seq, id, type, status, queueTimeoutMs, depends } = state
    if (!RETRYABLE_STATUSES.includes(status as never)) return 'refused'
    const fate = depends ? this.#flows.again(seq) : 'ready'
    if (fate === null) return 'refused'
    const stored = fate === 'waits' ? 'dependent' : 'pending'
    this.#attempts.addLast(state)
    tx.database.run('restart', tx.now, seq, stored)
    if (stored === 'pending') {
      this.#groups.becameReady({ ...state, runAt: tx.now })
      if (queueTimeoutMs !== 0) tx.due.addWaitEnd(tx.now + queueTimeoutMs)
    }
    tx.count(type, status, -1)
    tx.count(type, stored, 1)
    tx.addEvent(eventBody({ taskId: id, type, status: 'pending', attempts: 0 }))
    tx.touchedTypes.add(type)
    return 'changed'
  }

  /**
   * Continues the work that earlier transactions have left, within the bound of one; returns the number of tasks
   * handled.
   */
  followOn(tx: Tx): number {
    const before = tx.followed
    while (tx.followed < FOLLOWED_MAX) {
      const next = this.#flows.takePutOff()
      if (!next) break
      if (next.task) this.decide(tx, this.#flows.ended(tx, next.task, next.behind))
    }
    tx.hasPutOff = this.#flows.hasPutOff()
    return tx.followed - before
  }

  /** Starts or ends the tasks that waited for others. */
  decide(tx: Tx, fates: readonly Decided[]): void {
    const bySeq = new Map(fates.map(({ seq, fate }) => [seq, fate]))
    for (const state of statesOf(tx, fates)) {
      const fate = bySeq.get(state.seq)
      if (fate === 'ready') this.#release(tx, state)
      else if (typeof fate === 'object') {
        this.#finish(tx, state, { ...unchanged(state), status: 'canceled', error: fate.canceledBecause })
      }
    }
  }

  /** Ends leases that are expired, timed out or past the grace of a cancel; returns how many. */
  endLeases(tx: Tx, max: number): number {
    const due = tx.database.all('dueLeases', tx.now, this.#options.cancelGraceMs, max)
    for (const state of statesOf(tx, due)) this.#end(tx, state, dueEnding(state, tx.now))
    return due.length
  }

  #start(tx: Tx, seqs: readonly number[], turn: Turn): Lease[] {
    const { worker, leaseMs = this.#options.leaseMs, forwards = false } = turn
    if (seqs.length === 0) return []
    const expiresAt = tx.now + leaseMs
    const secret = leaseSecret()
    const leases = new Map<number, Lease>()
    const uses: Uses[] = []
    // Leases that were lost elsewhere stay in this process's memory, so the cache is cleared; it can be read again.
    if (this.#started.size > STARTED_MAX) this.#started.clear()
    for (const values of tx.database.arrays('start', tx.now, worker.id, leaseMs, JSON.stringify(seqs), secret)) {
      const { task, state } = startedOf(values, tx.now, worker.id, leaseMs, secret)
      if (forwards) keepPayloadText(task, values[21] as string)
      const lease = tokenOf(state)
      this.#started.set(lease, state)
      if (state.uses !== NO_USES) uses.push(state.uses)
      const predecessors = state.depends ? this.#flows.predecessors(state.seq) : NONE
      leases.set(state.seq, { lease, expiresAt, deadlineAt: state.deadlineAt, task, predecessors })
    }
    const started = seqs.flatMap((seq) => leases.get(seq) ?? [])
    for (const { task } of started) {
      const { id, type, attempts, runAt, workerId } = task
      tx.count(type, 'pending', -1)
      tx.count(type, 'processing', 1)
      tx.addEvent(eventBody({ taskId: id, type, status: 'processing', attempts, workerId }))
      this.#rates.started(type, tx.now - runAt)
    }
    this.#groups.served(
      started.map(({ task }) => task),
      (type) => this.#planner.groupLimit(type),
    )
    if (uses.length > 0) this.#limits.started(tx.now, uses)
    this.#logStarts(tx, started)
    return started
  }

  #logStarts(tx: Tx, started: readonly Lease[]): void {
    for (const type of new Set(started.map(({ task }) => task.type))) {
      const { rate } = this.#registry.rules(type)!
      if (rate) this.#rateLog.add(type, rate, tx.now, started.filter(({ task }) => task.type === type).length)
    }
  }

  #report(tx: Tx, state: TaskState, progress: string): void {
    const { seq, id, type, workerId, attempts } = state
    tx.database.run('setProgress', progress, tx.now, seq)
    const started = this.#started.get(tokenOf(state))
    if (started) started.progress = progress
    tx.addEvent(eventBody({ kind: 'progress', taskId: id, type, status: 'processing', attempts, workerId, progress }))
  }

  /** The tasks of those leases that are live, by token. */
  #held(tx: Tx, leases: readonly { lease: string }[]): Map<string, TaskState> {
    const held = new Map<string, TaskState>()
    if (leases.length === 0) return held
    const ids = leases.map(({ lease }) => lease.slice(0, lease.lastIndexOf('.')))
    for (const values of tx.database.arrays('statesById', JSON.stringify(ids))) {
      const state = stateOf(values)
      if (state.status === 'processing') held.set(tokenOf(state), state)
    }
    return held
  }

  /**
   * Ends a lease: its permit becomes free, and `settle` decides the task's status; null if the state is out of date.
   */
  #end(tx: Tx, held: TaskState, ending: Ending): Status | null {
    const settlement = settle(held, ending, this.#policy(held.type), tx.now, this.#options.random())
    if (!this.#finish(tx, held, settlement)) return null
    this.#groups.freed(held, tx.now)
    if (held.uses !== NO_USES) {
      this.#limits.ended(tx, held.startedAt, held.uses, 'usage' in ending ? ending.usage : undefined)
    }
    tx.touchedTypes.add(held.type)
    if (settlement.holdMs !== undefined) this.#hold(held, settlement.heldLimit ?? null, tx.now + settlement.holdMs)
    if (settlement.attempts > held.attempts) {
      this.#registry.countAttempt(held.workerId!, settlement.status === 'success')
    }
    return settlement.status
  }

  #hold({ type, uses }: TaskState, limit: string | null, until: number): void {
    const isHeld = limit !== null && Object.hasOwn(uses, limit) && this.#limits.hold(limit, until)
    if (!isHeld) this.#registry.hold(type, until)
  }

  #endAgain(tx: Tx, lease: string, ending: Ending): Status | null {
    const state = this.#held(tx, [{ lease }]).get(lease)
    return state ? this.#end(tx, state, ending) : null
  }

  #policy(type: string): SettlePolicy {
    const { delaysMs, jitter } = this.#registry.rules(type)!
    return { delaysMs, jitter, lostLeasesMax: this.#options.lostLeasesMax }
  }

  #endWait(tx: Tx, state: TaskState): void {
    tx.touchedTypes.add(state.type)
    this.#finish(tx, state, {
      ...unchanged(state),
      status: 'timeout',
      timeoutReason: 'queue_wait',
      error: WAITED_TOO_LONG,
    })
  }

  /** Writes a task's next status with its count and its event; false if `state` is out of date. */
  #finish(tx: Tx, state: TaskState, next: Settlement): boolean {
    const { now } = tx
    const { seq, id, type, workerId, progress, startedAt } = state
    const { status, attempts, lostLeases, runAt, error, timeoutReason } = next
    const final = isFinal(status)
    const stored = status === 'pending' && runAt > now ? 'delayed' : status
    const result = next.result === null ? null : textOf(next.result)
    const completedAt = final ? now : null
    const keptMs = final ? this.#registry.rules(type)?.keptMs[status] : undefined
    const keepUntil = keptMs === undefined ? null : now + keptMs
    const task = [stored, attempts, lostLeases, runAt, now, completedAt, result, error, timeoutReason, seq]
    const decidedOn = [state.status, state.deliveries, Number(state.cancelRequested)]
    if (tx.database.run('settle', ...task, ...decidedOn, keepUntil) === 0) return false
    if (next.attempt) this.#attempts.add(state, next.attempt, now, error)
    if (stored === 'delayed') tx.due.addReady(runAt)
    if (stored === 'pending') this.#groups.becameReady({ ...state, runAt })
    else if (state.status === 'pending') this.#groups.left(state)
    tx.count(type, state.status, -1)
    tx.count(type, stored, 1)
    const runMs = state.status === 'processing' ? now - startedAt! : null
    if (final || attempts > state.attempts) this.#rates.ended(type, status, runMs)
    tx.addEvent(eventBody({ taskId: id, type, status, attempts, progress, result, error, timeoutReason, workerId }))
    if (final) {
      this.#ended.push({ id, type, status, result, error })
      this.#follow(tx)
    }
    return true
  }

  /** Notifies the successors of ended tasks; those that this ends have their own successors notified as well. */
  #follow(tx: Tx): void {
    if (this.#isFollowing) return
    this.#isFollowing = true
    try {
      for (let at = 0; at < this.#ended.length; at++) this.decide(tx, this.#flows.ended(tx, this.#ended[at]!))
    } finally {
      this.#ended.length = 0
      this.#isFollowing = false
    }
  }

  #release(tx: Tx, state: TaskState): void {
    const { seq, type, queueTimeoutMs } = state
    const runAt = Math.max(state.runAt, tx.now)
    const stored = runAt > tx.now ? 'delayed' : 'pending'
    const deadlineAt = queueTimeoutMs === 0 ? null : runAt + queueTimeoutMs
    tx.database.run('release', stored, runAt, deadlineAt, tx.now, seq)
    if (deadlineAt !== null) tx.due.addWaitEnd(deadlineAt)
    if (stored === 'delayed') tx.due.addReady(runAt)
    else this.#groups.becameReady({ ...state, runAt })
    tx.count(type, 'dependent', -1)
    tx.count(type, stored, 1)
    tx.touchedTypes.add(type)
  }
}

function statesOf(tx: Tx, rows: readonly { seq?: Value }[]): TaskState[] {
  if (rows.length === 0) return []
  return tx.database.arrays('statesBySeq', JSON.stringify(rows.map(({ seq }) => seq!))).map(stateOf)
}

function unchanged({ attempts, lostLeases, runAt, error }: TaskState): Omit<Settlement, 'status'> {
  return { attempts, lostLeases, runAt, result: null, error, timeoutReason: null }
}
