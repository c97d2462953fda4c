import { type Ending, type Settlement, settle } from '../../task/outcome.ts'
import { isFinal, RETRYABLE_STATUSES, type Status } from '../../task/status.ts'
import type { Progress } from '../../task/task.ts'
import type { ChangeOutcome, EngineOptions, Lease, Renewed, Settled, Turn } from '../engine.ts'
import type { Rates } from './rates.ts'
import { eventBody, taskOf } from './rows.ts'
import type { Row } from './store.ts'
import type { Registry } from './types.ts'
import type { Tx } from './writer.ts'

/** Delayed tasks promoted, and waits ended, before each claim at most; a sweep does the rest. */
export const DUE_BATCH = 1_000

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
    const due = tx.store.all('waitedTooLong', tx.now, max)
    for (const { seq } of due) this.#endWait(tx, tx.store.get('taskBySeq', seq!)!)
    return due.length
  }

  /** Claims what `Engine.turn` promises. */
  claim(tx: Tx, turn: Turn): Lease[] {
    const leases: Lease[] = []
    if (turn.want <= 0 || turn.leaving) return leases
    const types = (turn.types ?? turn.worker.types).filter((type) => this.#registry.rules(type)?.paused === false)
    for (;;) {
      const heads = this.#heads(tx, types, turn.want - leases.length)
      for (const seq of heads) {
        const row = tx.store.get('taskBySeq', seq)!
        const waitDeadline = row.wait_deadline_at as number | null
        if (waitDeadline !== null && waitDeadline <= tx.now) this.#endWait(tx, row)
        else leases.push(this.#start(tx, row, turn))
      }
      if (heads.length === 0 || leases.length === turn.want) return leases
    }
  }

  settle(tx: Tx, token: string, ending: Ending): Settled {
    const held = this.#held(tx, token)
    if (!held) return { accepted: false, status: null }
    const { status } = this.#end(tx, held, ending)
    return { accepted: ending.kind !== 'success' || status === 'success', status }
  }

  renew(tx: Tx, token: string, progress: Progress | undefined): Renewed | null {
    const held = this.#held(tx, token)
    if (!held) return null
    const expiresAt = tx.now + (held.lease_ms as number)
    tx.store.run('renewLease', expiresAt, held.seq!)
    if (progress !== undefined) {
      const text = JSON.stringify(progress)
      tx.store.run('setProgress', text, tx.now, held.seq!)
      const { id, type, worker_id, attempts } = held as Record<string, string> & { attempts: unknown }
      const event = { kind: 'progress', taskId: id!, type: type!, status: 'processing', workerId: worker_id! } as const
      tx.addEvent(eventBody({ ...event, attempts: attempts as number, progress: text }))
    }
    return { expiresAt, cancelRequested: held.cancel_at !== null }
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
      this.#end(tx, tx.store.get('leaseBySeq', seq!)!, { kind: late ? 'timeout' : 'lost' })
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

  #start(tx: Tx, row: Row, { worker, leaseMs = this.#options.leaseMs }: Turn): Lease {
    const { now } = tx
    const type = row.type as string
    const deliveries = (row.deliveries as number) + 1
    const timeout = row.process_timeout_ms as number
    const deadlineAt = timeout === 0 ? null : now + timeout
    const expiresAt = now + leaseMs
    tx.store.run('start', deliveries, now, now, worker.id, row.seq!)
    tx.store.run('insertLease', row.seq!, deliveries, type, worker.id, now, leaseMs, expiresAt, deadlineAt)
    tx.count(type, 'pending', -1)
    tx.count(type, 'processing', 1)
    this.#rates.started(type, now - (row.run_at as number))
    const started = { deliveries, started_at: now, updated_at: now, worker_id: worker.id, progress: null }
    const task = taskOf({ ...row, ...started, status: 'processing' })
    tx.addEvent(
      eventBody({ taskId: task.id, type, status: 'processing', attempts: task.attempts, workerId: worker.id }),
    )
    return { lease: `${task.id}.${deliveries}`, expiresAt, deadlineAt, task }
  }

  #held(tx: Tx, token: string): Row | undefined {
    const dot = token.lastIndexOf('.')
    const fence = Number(token.slice(dot + 1))
    return dot > 0 && Number.isSafeInteger(fence) ? tx.store.get('heldLease', token.slice(0, dot), fence) : undefined
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
    tx.store.run('deleteLease', held.seq!)
    tx.touchedTypes.add(type)
    this.#finish(tx, { ...held, status: 'processing' }, settlement, held.since as number)
    if (settlement.attempts > running.attempts) {
      this.#registry.countAttempt(held.worker_id as string, settlement.status === 'success')
    }
    return settlement
  }

  #endWait(tx: Tx, row: Row): void {
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
  return `${row.id}.${row.fence}`
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
