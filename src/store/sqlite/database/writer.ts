import { XQueueError } from '../../../task/errors.ts'
import { WAITING_STATUSES } from '../../../task/status.ts'
import type { Uses } from '../../../task/uses.ts'
import type { Due } from '../due/due.ts'
import { type Database, isBusy, isOfOneOperation, storeError } from './database.ts'

/** A file that stays locked this long makes the waiting calls fail with `engine_unavailable`. */
const BUSY_MS_MAX = 10_000
const EVENTS_PER_ROW = 500

/** One transaction under way: the state that its operations share, written once at its end. */
export class Tx {
  readonly database: Database
  readonly due: Due
  readonly now: number
  /** Types of which a task became ready, a permit became free, or the rules changed. */
  readonly touchedTypes = new Set<string>()
  /** Named limits that may have more room: permits became free, or the rules changed. */
  readonly freedLimits = new Set<string>()
  /** What tasks used that have ended: the same for their limits. */
  readonly freedUses = new Set<Uses>()
  /** Workers that have a cancel request to receive. */
  readonly canceledWorkers = new Set<string>()
  /** Number of successors handled, and whether some were left for the next transaction. */
  followed = 0
  hasPutOff = false
  readonly #events: string[] = []
  readonly #counts = new Map<string, Map<string, number>>()
  /** Counts are written at the end, so until then the file has the earlier ones. */
  #waitingBefore: number | undefined

  constructor(database: Database, due: Due, now: number) {
    this.database = database
    this.due = due
    this.now = now
  }

  get eventCount(): number {
    return this.#events.length
  }

  /** `body` is the event's JSON, see outbox.ts. */
  addEvent(body: string): void {
    this.#events.push(body)
  }

  /** Counts one task more (or less) of a type in a stored status. */
  count(type: string, status: string, change: number): void {
    const ofType = this.#counts.get(type) ?? new Map<string, number>()
    this.#counts.set(type, ofType)
    ofType.set(status, (ofType.get(status) ?? 0) + change)
  }

  /** The number of waiting tasks, including the changes of this transaction. */
  waiting(): number {
    this.#waitingBefore ??= this.database.get('countIn', JSON.stringify(WAITING_STATUSES))!.n as number
    let waiting = this.#waitingBefore
    for (const counts of this.#counts.values())
      for (const status of WAITING_STATUSES) waiting += counts.get(status) ?? 0
    return waiting
  }

  /** Writes the gathered changes: counters once per type and status, events many to a row. */
  finish(): void {
    for (const [type, counts] of this.#counts) {
      for (const [status, n] of counts) if (n !== 0) this.database.run('addCount', type, status, n)
    }
    if (this.#events.length === 0) return
    let { last, total } = (this.database.get('lastEvents') ?? { last: 0, total: 0 }) as { last: number; total: number }
    for (let from = 0; from < this.#events.length; from += EVENTS_PER_ROW) {
      const part = this.#events.slice(from, from + EVENTS_PER_ROW)
      const body = `[${part.join(',')}]`
      last += part.length
      total += Buffer.byteLength(body)
      this.database.run('insertEvents', last, part.length, this.now, body, total)
    }
  }
}

interface Operation {
  work: (tx: Tx) => unknown
  durable: boolean
  resolve: (value: never) => void
  reject: (error: unknown) => void
}

/** The store's work around each transaction. */
export interface WriterHooks {
  begun: () => void
  /** More work for the same transaction (waiting turns); returns callbacks to run after the commit. */
  beforeCommit: (tx: Tx) => (() => void)[]
  afterCommit: (tx: Tx) => void
  rolledBack: () => void
}

/**
 * The one writer of this process: operations that arrive in the same turn of the event loop share one transaction, and
 * transactions that follow each other closely share one sync. A single operation leaves at once; under load the groups
 * grow by themselves.
 *
 * An operation that throws XQueueError has checked before it wrote: only that operation fails. Any other error rolls
 * the whole transaction back. If its cause is an operation and not the file, each of them then runs in a transaction of
 * its own, so that only the faulty operation fails.
 */
export class Writer {
  readonly #database: Database
  readonly #due: Due
  readonly #clock: () => number
  readonly #hooks: WriterHooks
  #queue: Operation[] = []
  /** Operations of a failed group: each runs in its own transaction. */
  #alone: Operation[] = []
  #scheduled = false
  #busySince: number | null = null
  #retry: NodeJS.Timeout | undefined

  constructor(database: Database, due: Due, clock: () => number, hooks: WriterHooks) {
    this.#database = database
    this.#due = due
    this.#clock = clock
    this.#hooks = hooks
  }

  /** Runs `work` inside the next transaction; resolves when that is durable, or only committed, if that is enough. */
  write<T>(work: (tx: Tx) => T, { durable }: { durable: boolean }): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.#queue.push({ work, durable, resolve: resolve as (value: never) => void, reject })
      this.#schedule()
    })
  }

  /** Writes the waiting operations before a close. Fails those that a locked file prevents from being written. */
  drain(): void {
    clearTimeout(this.#retry)
    this.#flush()
    while (this.#alone.length > 0 && this.#busySince === null) this.#flush()
    const left = [...this.#alone.splice(0), ...this.#queue.splice(0)]
    for (const { reject } of left) reject(new XQueueError('engine_unavailable', 'the engine was closed'))
    clearTimeout(this.#retry)
  }

  #schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(() => this.#flush())
  }

  #flush(): void {
    this.#scheduled = false
    if (this.#queue.length + this.#alone.length === 0) return
    try {
      this.#database.run('begin')
      this.#busySince = null
    } catch (error) {
      this.#waitOrFail(error)
      return
    }
    const operations = this.#alone.length > 0 ? this.#alone.splice(0, 1) : this.#queue.splice(0)
    this.#carryOut(operations)
    if (this.#queue.length + this.#alone.length > 0) this.#schedule()
  }

  #carryOut(operations: Operation[]): void {
    const { db } = this.#database
    const committed: (() => void)[] = []
    const durable: { answer: () => void; reject: (error: unknown) => void }[] = []
    const tx = new Tx(this.#database, this.#due, this.#clock())
    try {
      this.#hooks.begun()
      for (const { work, durable: mustLast, resolve, reject } of operations) {
        try {
          const result = work(tx) as never
          const answer = () => resolve(result)
          if (mustLast) durable.push({ answer, reject })
          else committed.push(answer)
        } catch (error) {
          if (!(error instanceof XQueueError)) throw error
          committed.push(() => reject(error))
        }
      }
      committed.push(...this.#hooks.beforeCommit(tx))
      tx.finish()
      this.#database.run('commit')
    } catch (error) {
      if (db.isTransaction) db.exec('ROLLBACK')
      this.#hooks.rolledBack()
      if (operations.length > 1 && isOfOneOperation(error)) {
        this.#alone.push(...operations)
        return
      }
      const failure = storeError(error, this.#database.path)
      for (const { reject } of operations) reject(failure)
      return
    }
    this.#database.sync.committed()
    for (const answer of committed) answer()
    if (durable.length > 0) this.#answerWhenDurable(durable)
    this.#hooks.afterCommit(tx)
  }

  #answerWhenDurable(operations: { answer: () => void; reject: (error: unknown) => void }[]): void {
    this.#database.sync.durable().then(
      () => {
        for (const { answer } of operations) answer()
      },
      (error: unknown) => {
        const failure = storeError(error, this.#database.path)
        for (const { reject } of operations) reject(failure)
      },
    )
  }

  #waitOrFail(error: unknown): void {
    const now = performance.now()
    this.#busySince ??= now
    if (isBusy(error) && now - this.#busySince < BUSY_MS_MAX) {
      this.#scheduled = true
      this.#retry = setTimeout(() => this.#flush(), 1 + Math.random() * 4)
      return
    }
    this.#busySince = null
    const failure = storeError(error, this.#database.path)
    for (const { reject } of [...this.#alone.splice(0), ...this.#queue.splice(0)]) reject(failure)
  }
}
