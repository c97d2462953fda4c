import type { Database } from '../database/database.ts'

/**
 * When the next delayed task becomes ready and the next wait ends, cached between transactions so that most of them
 * need not query the file. Both are lower bounds, because the task may have been canceled meanwhile; Infinity is never.
 */
export class Due {
  readonly #database: Database
  #readyAt: number | null = null
  #waitEndsAt: number | null = null

  constructor(database: Database) {
    this.#database = database
  }

  readyAt(): number {
    this.#readyAt ??= this.#ask('nextReady')
    return this.#readyAt
  }

  waitEndsAt(): number {
    this.#waitEndsAt ??= this.#ask('nextWaitEnd')
    return this.#waitEndsAt
  }

  /** A task was written that becomes ready at `at`. */
  addReady(at: number): void {
    if (this.#readyAt !== null) this.#readyAt = Math.min(this.#readyAt, at)
  }

  /** A task was written whose wait for its first start ends at `at`. */
  addWaitEnd(at: number): void {
    if (this.#waitEndsAt !== null) this.#waitEndsAt = Math.min(this.#waitEndsAt, at)
  }

  /**
   * The due tasks were processed, another process has written, or a transaction was rolled back: the file must be
   * queried.
   */
  forget(): void {
    this.#readyAt = null
    this.#waitEndsAt = null
  }

  #ask(statement: 'nextReady' | 'nextWaitEnd'): number {
    return (this.#database.get(statement)!.at as number | null) ?? Number.POSITIVE_INFINITY
  }
}
