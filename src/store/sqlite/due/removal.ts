import { FINAL_STATUSES, isFinal, type Status } from '../../../task/status.ts'
import type { ChangeOutcome, StoreOptions } from '../../store.ts'
import type { Database, Row } from '../database/database.ts'
import type { Tx } from '../database/writer.ts'
import type { Outbox } from '../events/outbox.ts'
import type { Flows } from '../flows/flows.ts'
import type { Attempts } from '../records/attempts.ts'
import type { Logs } from '../records/logs.ts'
import { eventBody, stateOf } from '../records/rows.ts'
import type { Transitions } from '../turn/transitions.ts'

/** The stored statuses that retention counts. */
const FINISHED = JSON.stringify(FINAL_STATUSES)

/** Removes finished tasks from the file: those past retention, and those that are erased. */
export class Removal {
  readonly #transitions: Transitions
  readonly #flows: Flows
  /** What is kept beside tasks, and goes with them. */
  readonly #beside: readonly (Attempts | Logs)[]
  readonly #outbox: Outbox
  readonly #options: StoreOptions

  constructor(
    transitions: Transitions,
    flows: Flows,
    beside: readonly (Attempts | Logs)[],
    outbox: Outbox,
    options: StoreOptions,
  ) {
    this.#beside = beside
    this.#transitions = transitions
    this.#flows = flows
    this.#outbox = outbox
    this.#options = options
  }

  /** Whether there are more events or finished tasks than are kept; ignores the age of tasks. */
  isDue(database: Database, now: number): boolean {
    const finished = database.get('countIn', FINISHED)!.n as number
    return finished > this.#options.retention.countMax || !this.#outbox.isWithin(this.#options, now)
  }

  /** The time at which the next finished task is past retention, or null. */
  nextAt(database: Database): number | null {
    const [next] = this.#soonest(database, 1)
    return next ? this.#goesAt(next) : null
  }

  /** Removes finished tasks past retention, and of those above the count the ones that expire first. */
  forgetFinished(tx: Tx, max: number): number {
    let excess = (tx.database.get('countIn', FINISHED)!.n as number) - this.#options.retention.countMax
    const nextAt = this.nextAt(tx.database)
    if (nextAt === null || (excess <= 0 && nextAt > tx.now)) return 0
    const removed: number[] = []
    let endedUntil = 0
    for (const row of this.#soonest(tx.database, max)) {
      if (excess <= 0 && this.#goesAt(row) > tx.now) break
      if (!this.#remove(tx, row)) break
      endedUntil = Math.max(endedUntil, row.completed_at as number)
      excess -= 1
      removed.push(row.seq as number)
    }
    if (removed.length > 0) tx.database.run('noteRemoved', endedUntil)
    for (const kept of this.#beside) kept.drop(removed)
    return removed.length
  }

  /** The finished tasks that expire first. */
  #soonest(database: Database, max: number): Row[] {
    const kept = database.all('soonestKept', max)
    const others = database.all('oldestFinished', max)
    if (kept.length === 0) return others
    return [...others, ...kept].sort((a, b) => this.#goesAt(a) - this.#goesAt(b)).slice(0, max)
  }

  #goesAt({ completed_at, keep_until }: Row): number {
    return (keep_until as number | undefined) ?? (completed_at as number) + this.#options.retention.ageMs
  }

  /**
   * Erases finished tasks together with their contents in events and successors. A task with more waiting successors
   * than one transaction may handle is `left` for another transaction.
   */
  erase(tx: Tx, ids: readonly string[]): { outcomes: Map<string, ChangeOutcome>; left: string[] } {
    const outcomes = new Map<string, ChangeOutcome>()
    const left: string[] = []
    const erased: { id: string; createdAt: number; completedAt: number }[] = []
    tx.database.overwriting(() => {
      for (const values of tx.database.arrays('statesById', JSON.stringify(ids))) {
        const { seq, id, type, ...state } = stateOf(values)
        const status = state.status as Status
        if (!isFinal(status)) {
          outcomes.set(id, 'refused')
          continue
        }
        const row = tx.database.get('finishedBySeq', seq)!
        if (!this.#remove(tx, row, true)) {
          left.push(id)
          continue
        }
        outcomes.set(id, 'changed')
        for (const kept of this.#beside) kept.drop([seq])
        this.#flows.erased({ id, type, status })
        tx.database.run('noteRemoved', row.completed_at!)
        erased.push({ id, createdAt: row.created_at as number, completedAt: row.completed_at as number })
      }
      this.#outbox.erase(tx, erased)
    })
    return { outcomes, left }
  }

  /** False if the task has too many waiting successors for this transaction: then it still exists. */
  #remove(tx: Tx, row: Row, isErased = false): boolean {
    const { seq, id, type, status, attempts, batch } = row as { seq: number; id: string; type: string } & Row
    const { decided, isLast } = this.#flows.removed(tx, id, isErased)
    this.#transitions.decide(tx, decided)
    if (!isLast) return false
    tx.database.run('deleteTask', seq)
    tx.database.run('deletePayload', seq)
    if (row.depends === 1) this.#flows.dropPredecessors(seq)
    if (batch !== null) {
      tx.database.run('leaveBatch', batch!)
      tx.database.run('dropBatch', batch!)
    }
    tx.count(type, status as string, -1)
    const last = { status: status as Status, attempts: attempts as number }
    tx.addEvent(eventBody({ kind: 'removed', taskId: id, type, ...last }))
    return true
  }
}
