import { canceledBecause, canceledBecauseGone, effectOf, type OnFailure, type Predecessor } from '../../task/flow.ts'
import { isFinal, type Status } from '../../task/status.ts'
import { TASK_LIMITS } from '../../task/task.ts'
import { FOLLOWED_MAX } from '../options.ts'
import { tooManySuccessors } from '../refusals.ts'
import { onFailureOf } from './rows.ts'
import type { Row, Store, Value } from './store.ts'
import type { Tx } from './writer.ts'

/** A task that has ended, as far as others that wait for it want to know; the result is JSON. */
export interface Ended {
  id: string
  type: string
  status: Status
  result: string | null
  error: string | null
}

/** What becomes of a task that waits for others: it may start, goes on waiting, or is over for the reason given. */
export type Fate = 'ready' | 'waits' | { canceledBecause: string }

export interface Decided {
  seq: number
  fate: Fate
}

/** Larger outcomes are kept apart. */
const INLINE_BYTES_MAX = 1_024

/** What a successor that retention has removed one for knows of it. */
const GONE = 'null'

/**
 * Which task waits for which. What a task has waited for is kept with it as it ended, until the task itself goes; what
 * it still waits for is a row without an outcome. A predecessor that ended in a way that does not count stays awaited:
 * it may be retried.
 */
export class Flows {
  readonly #store: Store
  /** Whether anything is waited for; asked once, and again when another process may have written. */
  #inUse: boolean | null = null

  constructor(store: Store) {
    this.#store = store
  }

  forget(): void {
    this.#inUse = null
  }

  /** Which of these ids are none of a task that is kept. */
  unknown(ids: readonly string[]): Set<string> {
    return new Set(ids.filter((id) => !this.#store.get('statusById', id)))
  }

  /** @throws XQueueError `too_many_successors` when so many more are to wait for a task */
  refuseCrowd(id: string, more: number): void {
    const waiting = this.#store.get('countSuccessors', id)!.n as number
    if (waiting + more > TASK_LIMITS.successorsMax) throw tooManySuccessors(id)
  }

  /** From now on a task waits for others, which are all there; answers what becomes of it as they stand. */
  begin(successor: number, ids: readonly string[], onFailure: OnFailure): Fate {
    let fate: Fate = 'ready'
    ids.forEach((id, place) => {
      const status = this.#store.get('statusById', id)!.status as Status
      const effect = isFinal(status) ? effectOf(status, onFailure) : 'waits'
      const kept = effect === 'counts' ? this.#keep(endedOf(this.#store.get('endingById', id)!)!) : [null, null, 0]
      this.#store.run('insertPredecessor', successor, place, id, ...kept)
      if (effect === 'counts') return
      this.#inUse = true
      if (typeof fate === 'object') return
      fate = effect === 'cancels' ? { canceledBecause: canceledBecause(id, status) } : 'waits'
    })
    return fate
  }

  /**
   * A task has ended: what becomes of those that wait for it. A transaction tells a bounded number of them, since all
   * other calls wait for it; the rest is noted in the same transaction, and told in the next ones.
   * @param behind the last one that was told before
   */
  ended(tx: Tx, task: Ended, behind = 0): Decided[] {
    if (!this.#isInUse()) return []
    const decided: Decided[] = []
    const room = FOLLOWED_MAX - tx.followed
    const some = this.#store.all('someSuccessorsOf', task.id, behind, Math.max(room, 1))
    if (some.length > 0 && some.length >= room) {
      const told = room > 0
      this.#store.run('putOff', task.id, told ? (some.at(-1)!.seq as number) : behind)
      tx.hasPutOff = true
      if (!told) return []
    }
    tx.followed += some.length
    let kept: Value[] | undefined
    for (const { seq, status, on_failure } of some) {
      const effect = effectOf(task.status, onFailureOf(on_failure))
      if (effect === 'counts') {
        kept ??= this.#keep(task)
        this.#store.run('setPredecessor', ...kept, seq!, task.id)
      }
      if (status !== 'dependent' || effect === 'waits') continue
      if (effect === 'cancels') {
        decided.push({ seq: seq as number, fate: { canceledBecause: canceledBecause(task.id, task.status) } })
      } else if (!this.#awaits(seq as number)) decided.push({ seq: seq as number, fate: 'ready' })
    }
    return decided
  }

  /** Whether a transaction has left some to be told by the next one. */
  hasPutOff(): boolean {
    return this.#store.get('firstPutOff') !== undefined
  }

  /** The next that ended and has not told all; it is noted again if this transaction cannot tell the rest. */
  takePutOff(): { task: Ended | null; behind: number } | null {
    const row = this.#store.get('firstPutOff')
    if (!row) return null
    this.#store.run('dropPutOff', row.n!)
    // One that was retried meanwhile tells when it ends again; one that was removed has told that it is gone.
    const found = this.#store.get('endingById', row.id!)
    return { task: found ? endedOf(found) : null, behind: row.behind as number }
  }

  /**
   * A finished task is to be removed: mostly those that still wait for it wait in vain; those that its end has not yet
   * been told are told it now. It stays until all are told, in as many transactions as that takes.
   * @param isErased nothing of its result may be told
   * @returns what becomes of them, and whether these were all
   */
  removed(tx: Tx, id: string, isErased: boolean): { decided: Decided[]; isLast: boolean } {
    const room = Math.max(FOLLOWED_MAX - tx.followed, 0)
    const some = this.#isInUse() ? this.#store.all('someSuccessorsOf', id, 0, room + 1) : []
    if (some.length === 0) return { decided: [], isLast: true }
    const ended = endedOf(this.#store.get('endingById', id)!)!
    const task = isErased ? { ...ended, result: null, error: null } : ended
    let kept: Value[] | undefined
    const decided = some.slice(0, room).flatMap(({ seq, status, on_failure }) => {
      const effect = effectOf(task.status, onFailureOf(on_failure))
      if (effect === 'counts') kept ??= this.#keep(task)
      this.#store.run('setPredecessor', ...(effect === 'counts' ? kept! : [GONE, null, 0]), seq!, task.id)
      if (status !== 'dependent') return []
      if (effect === 'counts') return this.#awaits(seq as number) ? [] : { seq: seq as number, fate: 'ready' as const }
      const why = effect === 'cancels' ? canceledBecause(task.id, task.status) : canceledBecauseGone(task.id)
      return { seq: seq as number, fate: { canceledBecause: why } }
    })
    tx.followed += Math.min(some.length, room)
    return { decided, isLast: some.length <= room }
  }

  /** A task is erased: those that have waited for it keep how it ended, and nothing else. */
  erased(task: Pick<Ended, 'id' | 'type' | 'status'>): void {
    const copies = this.#store.all('copiesOf', task.id)
    this.#store.run('blankCopies', outcomeOf({ ...task, result: null, error: null }), task.id)
    this.#dropUnused(copies)
  }

  /** A task goes, and with it what it has waited for. */
  dropPredecessors(successor: number): void {
    const copies = this.#store.all('copiesFor', successor)
    this.#store.run('dropPredecessors', successor)
    this.#dropUnused(copies)
  }

  /** What an explicit retry makes of a task that waited for others; null where it would wait in vain. */
  again(successor: number): 'ready' | 'waits' | null {
    if (this.#store.get('goneOf', successor)) return null
    return this.#awaits(successor) ? 'waits' : 'ready'
  }

  /** The ids that a task still waits for. */
  awaitedBy(successor: number): string[] {
    return this.#store.all('awaitedBy', successor, TASK_LIMITS.afterMax).map(({ id }) => id as string)
  }

  /** What a task has waited for, with as many of the results as one answer may have. */
  predecessors(successor: number): Predecessor[] {
    let left: number = TASK_LIMITS.predecessorsBytesMax
    return this.#store.all('predecessorsOf', successor).map(({ id, outcome, copy, bytes }) => {
      const size = copy === null ? Buffer.byteLength((outcome as string | null) ?? GONE) : (bytes as number)
      if (size > left) return { ...predecessorOf(id, outcome), result: null, error: null, omitted: true }
      left -= size
      return predecessorOf(id, copy === null ? outcome : this.#store.get('copyOf', copy!)!.outcome)
    })
  }

  /** One of them as a whole, or null. */
  predecessor(successor: number, id: string): Predecessor | null {
    const row = this.#store.get('predecessorOf', successor, id)
    return row ? predecessorOf(row.id, row.outcome) : null
  }

  /** How a task ended, for those that have waited for it: outcome, copy and bytes of their rows. */
  #keep(task: Ended): Value[] {
    const outcome = outcomeOf(task)
    const bytes = Buffer.byteLength(outcome)
    if (bytes <= INLINE_BYTES_MAX) return [outcome, null, bytes]
    return [JSON.stringify([task.status, task.type]), this.#store.insert('insertCopy', outcome), bytes]
  }

  #dropUnused(copies: readonly Row[]): void {
    for (const { copy } of copies) this.#store.run('dropCopy', copy!)
  }

  #awaits(successor: number): boolean {
    return this.#store.get('awaitedBy', successor, 1) !== undefined
  }

  #isInUse(): boolean {
    this.#inUse ??= this.#store.get('anyAwaited') !== undefined
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
