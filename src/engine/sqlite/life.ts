import { type Ending, type Outcome, type Settlement, settle } from '../../task/outcome.ts'
import { isFinal, RETRYABLE_STATUSES, type Status } from '../../task/status.ts'
import type { Progress } from '../../task/task.ts'
import type { ChangeOutcome, EngineOptions, Lease, Renewed, Settled, Turn } from '../engine.ts'
import type { Rates } from './rates.ts'
import { eventBody, taskOf } from './rows.ts'
import type { Row } from './store.ts'
import type { Registry } from './types.ts'
import type { Tx } from './writer.ts'

/** Delayed tasks promoted, and waits ended, before each claim at most; a sweep does the rest. */
const DUE_BATCH = 1_000
const CLAIM_PASSES = 5

/** Every change of a task between its submission and its removal, each inside the transaction it is handed. */
export class Life {
  readonly #registry: Registry
  readonly #rates: Rates
  readonly #options: EngineOptions

  constructor(registry: Registry, rates: Rates, options: EngineOptions) {
    this.#registry = registry
    this.#rates = rates
    this.#options = options
  }

  /** Makes delayed tasks ready whose time has come; returns how many. */
  promote(tx: Tx, max = DUE_BATCH): number {
    if (tx.due.readyAt() > tx.now) return 0
    tx.due.forget()
    const due = tx.store.all('due', tx.now, max)
    for (const { seq, type } of due) {
      tx.store.run('promote', seq!)
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
    const due = tx.store.all('waitedTooLong', tx.now, max)
    for (const { seq } of due) this.#endWait(tx, tx.store.get('taskBySeq', seq!)!)
    return due.length
  }

  /** Claims what `Engine.turn` promises. */
  claim(tx: Tx, turn: Turn): Lease[] {
    const leases: Lease[] = []
    if (turn.want <= 0 || turn.leaving) return leases
    const types = (turn.types ?? turn.worker.types).filter((type) => this.#registry.rules(type)?.paused === false)
    // Tasks that waited too long stand in the way only until they are ended; should they be very many, a sweep goes on.
    for (let ended = DUE_BATCH, passes = 0; ended === DUE_BATCH && passes < CLAIM_PASSES; passes++) {
      ended = this.endWaits(tx)
      leases.push(...this.#start(tx, this.#heads(tx, types, turn.want - leases.length), turn))
      if (leases.length === turn.want) break
    }
    return leases
  }

  /** Settles leases; one answer each, in order. */
  settle(tx: Tx, outcomes: readonly { lease: string; outcome: Outcome }[]): Settled[] {
    const held = this.#held(tx, outcomes)
    return outcomes.map(({ lease, outcome }) => {
      const row = held.get(lease)
      if (!row) return { accepted: false, status: null }
      held.delete(lease)
      const { status } = this.#end(tx, row, outcome)
      return { accepted: outcome.kind !== 'success' || status === 'success', status }
    })
  }

  /** Renews leases; one answer each, in order. */
  renew(tx: Tx, renewals: readonly { lease: string; progress?: Progress }[]): (Renewed | null)[] {
    const held = this.#held(tx, renewals)
    return renewals.map(({ lease, progress }) => {
      const row = held.get(lease)
      if (!row) return null
      const expiresAt = tx.now + (row.lease_ms as number)
      tx.store.run('renewLease', expiresAt, row.seq!)
      if (progress !== undefined) this.#report(tx, row, JSON.stringify(progress))
      return { expiresAt, cancelRequested: row.cancel_at !== null }
    })
  }

  /** Leases of a worker that it has not yet been told to stop. */
  tellCancels(tx: Tx, workerId: string): string[] {
    return tx.store.all('untoldCancels', workerId).map((row) => {
      tx.store.run('cancelTold', row.seq!)
      return tokenOf(row)
    })
  }

  cancel(tx: Tx, row: Row): ChangeOutcome {
    const status = row.status as string
    if (status === 'processing') {
      tx.store.run('requestCancel', tx.now, row.seq!)
      tx.canceledWorkers.add(row.worker_id as string)
      return 'stopping'
    }
    if (isFinal(status as Status)) return 'refused'
    this.#finish(tx, row, { ...unchanged(row), status: 'canceled' })
    return 'changed'
  }

  retry(tx: Tx, row: Row): ChangeOutcome {
    const status = row.status as (typeof RETRYABLE_STATUSES)[number]
    if (!RETRYABLE_STATUSES.includes(status)) return 'refused'
    const type = row.type as string
    tx.store.run('restart', tx.now, row.seq!)
    if (row.queue_timeout_ms !== 0) tx.due.addWaitEnd(tx.now + (row.queue_timeout_ms as number))
    tx.count(type, status, -1)
    tx.count(type, 'pending', 1)
    tx.addEvent(eventBody({ taskId: row.id as string, type, status: 'pending', attempts: 0 }))
    tx.touchedTypes.add(type)
    return 'changed'
  }

  /** Ends leases that are expired, out of time or past the grace of a cancel; returns how many. */
  endLeases(tx: Tx, max: number): number {
    const due = tx.store.all('dueLeases', tx.now, this.#options.cancelGraceMs, max)
    for (const { seq, deadline_at } of due) {
      const late = deadline_at !== null && (deadline_at as number) <= tx.now
      this.#end(tx, tx.store.get('taskBySeq', seq!)!, { kind: late ? 'timeout' : 'lost' })
    }
    return due.length
  }

  /** Removes finished tasks past retention; returns how many. */
  forgetFinished(tx: Tx, max: number): number {
    const { ageMs, countMax } = this.#options.retention
    let excess = (tx.store.get('finished')!.n as number) - countMax
    let removed = 0
    const [oldest] = tx.store.all('oldestFinished', 1)
    if (!oldest || (excess <= 0 && (oldest.completed_at as number) > tx.now - ageMs)) return 0
    for (const { seq, type, status, completed_at } of tx.store.all('oldestFinished', max)) {
      if (excess <= 0 && (completed_at as number) > tx.now - ageMs) break
      tx.store.run('deleteTask', seq!)
      tx.store.run('deletePayload', seq!)
      tx.count(type as string, status as string, -1)
      excess -= 1
      removed += 1
    }
    return removed
  }

  /** The tasks to run next over all types: highest priority, then longest ready. */
  #heads(tx: Tx, types: readonly string[], want: number): number[] {
    const perType = types.map((type) => {
      const limit = this.#registry.rules(type)!.maxConcurrency
      const free = limit === null ? want : Math.min(want, limit - (tx.store.get('inFlight', type)!.n as number))
      return free > 0 ? tx.store.all('heads', type, free) : []
    })
    const busy = perType.filter((heads) => heads.length > 0)
    const heads = busy.length === 1 ? busy[0]! : busy.flat().sort(byTurn)
    return heads.slice(0, want).map((row) => row.seq as number)
  }

  #start(tx: Tx, seqs: readonly number[], { worker, leaseMs = this.#options.leaseMs }: Turn): Lease[] {
    if (seqs.length === 0) return []
    const rows = new Map<number, Row>()
    for (const row of tx.store.all('start', tx.now, worker.id, leaseMs, JSON.stringify(seqs))) {
      rows.set(row.seq as number, row)
    }
    return seqs.flatMap((seq) => {
      const row = rows.get(seq)
      return row ? [this.#started(tx, row)] : []
    })
  }

  #started(tx: Tx, row: Row): Lease {
    const task = taskOf(row)
    const { id, type, attempts, workerId } = task
    tx.count(type, 'pending', -1)
    tx.count(type, 'processing', 1)
    tx.addEvent(eventBody({ taskId: id, type, status: 'processing', attempts, workerId }))
    this.#rates.started(type, tx.now - task.runAt)
    const deadlineAt = row.deadline_at as number | null
    return { lease: tokenOf(row), expiresAt: row.expires_at as number, deadlineAt, task }
  }

  #report(tx: Tx, { seq, id, type, worker_id, attempts }: Row, progress: string): void {
    tx.store.run('setProgress', progress, tx.now, seq!)
    const task = { taskId: id as string, type: type as string, attempts: attempts as number }
    tx.addEvent(eventBody({ ...task, kind: 'progress', status: 'processing', workerId: worker_id as string, progress }))
  }

  /** The tasks of those leases that are live, by token. */
  #held(tx: Tx, leases: readonly { lease: string }[]): Map<string, Row> {
    const held = new Map<string, Row>()
    if (leases.length === 0) return held
    const ids = JSON.stringify(leases.map(({ lease }) => lease.slice(0, lease.lastIndexOf('.'))))
    for (const row of tx.store.all('running', ids)) held.set(tokenOf(row), row)
    return held
  }

  /** A lease ends: its permit is free, and its task becomes what `settle` says. */
  #end(tx: Tx, held: Row, ending: Ending): Settlement {
    const type = held.type as string
    const { delaysMs, jitter } = this.#registry.rules(type)!
    const { lostLeasesMax, random } = this.#options
    const running = {
      attempts: held.attempts as number,
      lostLeases: held.lost_leases as number,
      maxRetry: held.max_retry as number,
      runAt: held.run_at as number,
      deadlineAt: held.deadline_at as number | null,
      cancelRequested: held.cancel_at !== null,
    }
    const settlement = settle(running, ending, { delaysMs, jitter, lostLeasesMax }, tx.now, random())
    tx.touchedTypes.add(type)
    this.#finish(tx, held, settlement, held.started_at as number)
    if (settlement.attempts > running.attempts) {
      this.#registry.countAttempt(held.worker_id as string, settlement.status === 'success')
    }
    return settlement
  }

  #endWait(tx: Tx, row: Row): void {
    tx.touchedTypes.add(row.type as string)
    const error = 'it waited longer than its queue_timeout for a worker'
    this.#finish(tx, row, { ...unchanged(row), status: 'timeout', timeoutReason: 'queue_wait', error })
  }

  /** Writes a task's next status with its count and its event. */
  #finish(tx: Tx, row: Row, next: Settlement, since: number | null = null): void {
    const { now } = tx
    const { status, attempts, lostLeases, runAt, error, timeoutReason } = next
    const type = row.type as string
    const final = isFinal(status)
    const stored = status === 'pending' && runAt > now ? 'delayed' : status
    if (stored === 'delayed') tx.due.addReady(runAt)
    const result = next.result === null ? null : JSON.stringify(next.result)
    const completedAt = final ? now : null
    tx.store.run(
      'settle',
      stored,
      attempts,
      lostLeases,
      runAt,
      now,
      completedAt,
      result,
      error,
      timeoutReason,
      row.seq!,
    )
    tx.count(type, row.status as string, -1)
    tx.count(type, stored, 1)
    if (status !== 'pending' || since === null || attempts > (row.attempts as number)) {
      this.#rates.ended(type, since === null ? null : now - since, final)
    }
    const event = { taskId: row.id as string, type, status, attempts, result, error, timeoutReason }
    const progress = (row.progress as string | null) ?? null
    tx.addEvent(eventBody({ ...event, progress, workerId: row.worker_id as string | null }))
  }
}

export function tokenOf(row: Row): string {
  return `${row.id}.${row.deliveries}`
}

function unchanged(row: Row): Omit<Settlement, 'status'> {
  return {
    attempts: row.attempts as number,
    lostLeases: row.lost_leases as number,
    runAt: row.run_at as number,
    result: null,
    error: row.error as string | null,
    timeoutReason: null,
  }
}

function byTurn(a: Row, b: Row): number {
  for (const [key, sign] of [
    ['priority', -1],
    ['run_at', 1],
    ['seq', 1],
  ] as const) {
    const order = (a[key] as number) - (b[key] as number)
    if (order !== 0) return order * sign
  }
  return 0
}
