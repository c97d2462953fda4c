import { FOLLOWED_MAX } from '../../options.ts'
import type { Swept } from '../../store.ts'
import type { Tx } from '../database/writer.ts'
import type { Documents } from '../documents/documents.ts'
import type { Outbox } from '../events/outbox.ts'
import type { Parts } from '../parts.ts'
import type { Transitions } from '../turn/transitions.ts'
import type { Removal } from './removal.ts'

export interface ChoreParts extends Parts {
  transitions: Transitions
  removal: Removal
  documents: Documents
  outbox: Outbox
}

/** Everything that a sweep does because its time has come, except for documents. */
export class Chores {
  readonly #parts: ChoreParts

  constructor(parts: ChoreParts) {
    this.#parts = parts
  }

  /** Does at most `max` of each kind. */
  do(tx: Tx, max: number): Swept {
    const { transitions, rates, groups, limits, removal, outbox, registry, space, options } = this.#parts
    const done = [
      transitions.promote(tx, max),
      transitions.endWaits(tx, max),
      transitions.endLeases(tx, max),
      removal.forgetFinished(tx, max),
      transitions.followOn(tx),
      groups.drop(max),
    ]
    if (!rates.isEmpty || rates.history.isDue(tx.now)) rates.write(tx.now)
    const moreEvents = outbox.drop(tx.now, options)
    const moreSpace = space.giveBack()
    limits.drop(tx.now)
    if (registry.isForgettingDue(tx.now)) registry.forgetUnused(tx.now)
    registry.forgetWorkers(tx.now - options.workerTtlMs)
    const changed = done.reduce((sum, n) => sum + n, 0)
    const isFull = tx.hasPutOff || tx.followed >= FOLLOWED_MAX || done.some((n) => n >= max)
    const more = moreEvents || moreSpace || isFull
    return { changed, more, nextAt: this.nextAt() }
  }

  /** Whether there is nothing to do now. */
  areDone(): boolean {
    const { database, rates, removal, registry, space, options } = this.#parts
    const now = options.clock()
    const nextAt = this.nextAt()
    if (!rates.isEmpty || rates.history.isDue(now) || (nextAt !== null && nextAt <= now)) return false
    return !removal.isDue(database, now) && !space.isTooMuch() && !registry.isForgettingDue(now)
  }

  nextAt(): number | null {
    const { database, due, flows, limits, documents, removal, options } = this.#parts
    const times = [
      flows.hasPutOff() ? 0 : due.readyAt(),
      limits.nextOpenAt(),
      due.waitEndsAt(),
      database.get('nextLeaseDue', options.cancelGraceMs)!.at,
      documents.nextDueAt(options.clock()),
      removal.nextAt(database),
    ].filter((at) => typeof at === 'number')
    const next = Math.min(...times)
    return next === Number.POSITIVE_INFINITY ? null : next
  }
}
