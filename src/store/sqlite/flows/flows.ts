import { canceledBecause, canceledBecauseGone, effectOf, type OnFailure, type Predecessor } from '../../../task/flow.ts'
import { type FinalStatus, isFinal, type Status } from '../../../task/status.ts'
import { TASK_LIMITS } from '../../../task/task.ts'
import { FOLLOWED_MAX } from '../../options.ts'
import { tooManySuccessors } from '../../refusals.ts'
import type { Database, Row, Value } from '../database/database.ts'
import type { Tx } from '../database/writer.ts'
import { onFailureOf } from '../records/rows.ts'

/** The end of a task, as its successors need it; the result is JSON. */
export interface Ended {
  id: string
  type: string
  status: FinalStatus
  result: string | null
  error: string | null
}

/** The next state of a task that waits for others: it may start, keeps waiting, or is canceled for the given reason. */
export type Fate = 'ready' | 'waits' | { canceledBecause: string }

export interface Decided {
  seq: number
  fate: Fate
}

/** Larger outcomes are stored separately. */
const INLINE_BYTES_MAX = 1_024

/** The outcome that a successor keeps of a predecessor that retention has removed. */
const GONE = 'null'

/**
 * Dependencies between tasks. Each successor keeps the outcomes of its predecessors until the successor itself is
 * removed; a predecessor that it still waits for is a row without an outcome. A predecessor that ended in a way that
 * does not count is still awaited, because it may be retried.
 */
export class Flows {
  readonly #database: Database
  /** Whether any task waits for another; queried once, and again when another process may have written. */
  #inUse: boolean | null = null

  constructor(database: Database) {
    this.#database = database
  }

  forget(): void {
    this.#inUse = null
  }

  /** Returns those of the ids that belong to no kept task. */
  unknown(ids: readonly string[]): Set<string> {
    return new Set(ids.filter((id) => !this.#database.get('statusById', id)))
  }

  /** @throws XQueueError `too_many_successors` if `more` additional tasks cannot wait for this task */
  refuseCrowd(id: string, more: number): void {
    const waiting = this.#database.get('countSuccessors', id)!.n as number
    if (waiting + more > TASK_LIMITS.successorsMax) throw tooManySuccessors(id)
  }

  /** Makes a task wait for others, which all exist; returns its next state, given their present statuses. */
  begin(successor: number, ids: readonly string[], onFailure: OnFailure): Fate {
    let fate: Fate = 'ready'
    ids.forEach((id, place) => {
      const status = this.#database.get('statusById', id)!.status as Status
      const effect = isFinal(status) ? effectOf(status, onFailure) : 'waits'
      const kept = effect === 'counts' ? this.#keep(endedOf(this.#database.get('endingById', id)!)!) : [null, null, 0]
      this.#database.run('insertPredecessor', successor, place, id, ...kept)
      if (effect === 'counts') return
      this.#inUse = true
      if (typeof fate === 'object') return
      fate = effect === 'cancels' ? { canceledBecause: canceledBecause(id, status) } : 'waits'
    })
    return fate
  }

  /** The tasks that its end has not released, oldest first. */
  successorsOf(id: string, max: number): string[] {
    return this.#database.all('successorsOf', id, max).map((row) => row.id as string)
  }

  /**
   * A task has ended: decides on its successors. One transaction handles a bounded number of them, because all other
   * calls wait for it; the rest is recorded in the same transaction, and handled in the next ones.
   * @param behind the last successor that was handled before
   */
  ended(tx: Tx, task: Ended, behind = 0): Decided[] {
    if (!this.#isInUse()) return []
    const decided: Decided[] = []
    const room = FOLLOWED_MAX - tx.followed
    const some = this.#database.all('someSuccessorsOf', task.id, behind, Math.max(room, 1))
    if (some.length > 0 && some.length >= room) {
      const handled = room > 0
      this.#database.run('putOff', task.id, handled ? (some.at(-1)!.seq as number) : behind)
      tx.hasPutOff = true
      if (!handled) return []
    }
    tx.followed += some.length
    let kept: Value[] | undefined
    for (const { seq, status, on_failure } of some) {
      const effect = effectOf(task.status, onFailureOf(on_failure))
      if (effect === 'counts') {
        kept ??= this.#keep(task)
        this.#database.run('setPredecessor', ...kept, seq!, task.id)
      }
      if (status !== 'dependent' || effect === 'waits') continue
      if (effect === 'cancels') {
        decided.push({ seq: seq as number, fate: { canceledBecause: canceledBecause(task.id, task.status) } })
      } else if (!this.#awaits(seq as number)) decided.push({ seq: seq as number, fate: 'ready' })
    }
    return decided
  }

  /** Whether a transaction has left successors for the next one. */
  hasPutOff(): boolean {
    return this.#database.get('firstPutOff') !== undefined
  }

  /**
   * Returns the next ended task with successors left; it is recorded again if this transaction cannot handle them all.
   */
  takePutOff(): { task: Ended | null; behind: number } | null {
    const row = this.#database.get('firstPutOff')
    if (!row) return null
    this.#database.run('dropPutOff', row.n!)
    // A task that was retried meanwhile notifies its successors when it ends again; one that was removed has already
    // done so.
    const found = this.#database.get('endingById', row.id!)
    return { task: found ? endedOf(found) : null, behind: row.behind as number }
  }

  /**
   * A finished task is to be removed. Most of its remaining successors wait in vain; those that its end has not yet
   * reached are handled now. The task stays until all are handled, in as many transactions as that takes.
   * @param isErased successors must not receive its result
   * @returns the decisions, and whether these were all
   */
  removed(tx: Tx, id: string, isErased: boolean): { decided: Decided[]; isLast: boolean } {
    const room = Math.max(FOLLOWED_MAX - tx.followed, 0)
    const some = this.#isInUse() ? this.#database.all('someSuccessorsOf', id, 0, room + 1) : []
    if (some.length === 0) return { decided: [], isLast: true }
    const ended = endedOf(this.#database.get('endingById', id)!)!
    const task = isErased ? { ...ended, result: null, error: null } : ended
    let kept: Value[] | undefined
    const decided = some.slice(0, room).flatMap(({ seq, status, on_failure }) => {
      const effect = effectOf(task.status, onFailureOf(on_failure))
      if (effect === 'counts') kept ??= this.#keep(task)
      this.#database.run('setPredecessor', ...(effect === 'counts' ? kept! : [GONE, null, 0]), seq!, task.id)
      if (status !== 'dependent') return []
      if (effect === 'counts') return this.#awaits(seq as number) ? [] : { seq: seq as number, fate: 'ready' as const }
      const why = effect === 'cancels' ? canceledBecause(task.id, task.status) : canceledBecauseGone(task.id)
      return { seq: seq as number, fate: { canceledBecause: why } }
    })
    tx.followed += Math.min(some.length, room)
    return { decided, isLast: some.length <= room }
  }

  /** A task is erased: its successors keep only its final status. */
  erased(task: Pick<Ended, 'id' | 'type' | 'status'>): void {
    const copies = this.#database.all('copiesOf', task.id)
    this.#database.run('blankCopies', outcomeOf({ ...task, result: null, error: null }), task.id)
    this.#dropUnused(copies)
  }

  /** A task is removed, and with it the outcomes of its predecessors. */
  dropPredecessors(successor: number): void {
    const copies = this.#database.all('copiesFor', successor)
    this.#database.run('dropPredecessors', successor)
    this.#dropUnused(copies)
  }

  /** The state of a task with predecessors after an explicit retry; null where it would wait in vain. */
  again(successor: number): 'ready' | 'waits' | null {
    if (this.#database.get('goneOf', successor)) return null
    return this.#awaits(successor) ? 'waits' : 'ready'
  }

  /** The ids that a task still waits for. */
  awaitedBy(successor: number): string[] {
    return this.#database.all('awaitedBy', successor, TASK_LIMITS.afterMax).map(({ id }) => id as string)
  }

  /** The predecessors of a task, with as many of their results as one answer may have. */
  predecessors(successor: number): Predecessor[] {
    let left: number = TASK_LIMITS.predecessorsBytesMax
    return this.#database.all('predecessorsOf', successor).map(({ id, outcome, copy, bytes }) => {
      const size = copy === null ? Buffer.byteLength((outcome as string | null) ?? GONE) : (bytes as number)
      if (size > left) return { ...predecessorOf(id, outcome), result: null, error: null, omitted: true }
      left -= size
      return predecessorOf(id, copy === null ? outcome : this.#database.get('copyOf', copy!)!.outcome)
    })
  }

  /** One predecessor with its full result, or null. */
  predecessor(successor: number, id: string): Predecessor | null {
    const row = this.#database.get('predecessorOf', successor, id)
    return row ? predecessorOf(row.id, row.outcome) : null
  }

  /** The outcome of a task as its successors keep it: outcome, copy and bytes of their rows. */
  #keep(task: Ended): Value[] {
    const outcome = outcomeOf(task)
    const bytes = Buffer.byteLength(outcome)
    if (bytes <= INLINE_BYTES_MAX) return [outcome, null, bytes]
    return [JSON.stringify([task.status, task.type]), this.#database.insert('insertCopy', outcome), bytes]
  }

  #dropUnused(copies: readonly Row[]): void {
    for (const { copy } of copies) this.#database.run('dropCopy', copy!)
  }

  #awaits(successor: number): boolean {
    return this.#database.get('awaitedBy', successor, 1) !== undefined
  }

  #isInUse(): boolean {
    this.#inUse ??= this.#database.get('anyAwaited') !== undefined
    return this.#inUse
  }
}

function endedOf({ id, type, status, result, error }: Row): Ended | null {
  return isFinal(status as Status) ? ({ id, type, status, result, error } as Record<string, Value> as never) : null
}

function predecessorOf(id: Value | undefined, outcome: Value | undefined): Predecessor {
  const [status, type, result = null, error = null] = JSON.parse((outcome as string | null) ?? GONE) ?? [null, '']
  return { id: id as string, type, status, result, error }
}

function outcomeOf({ status, type, result, error }: Ended): string {
  return `["${status}","${type}",${result ?? 'null'},${error === null ? 'null' : JSON.stringify(error)}]`
}
