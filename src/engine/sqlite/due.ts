import type { Store } from './store.ts'

/**
 * When the next delayed task becomes ready and the next wait ends, remembered between transactions: most of them need
 * not ask the file. Both are lower bounds, because what was waited for may have been canceled; Infinity is never.
 */
export class Due {
  readonly #store: Store
  #readyAt: number | null = null
  #waitEndsAt: number | null = null

  constructor(store: Store) {
    this.#store = store
  }

  readyAt(): number {
    this.#readyAt ??= this.#ask('nextReady')
    return this.#readyAt
  }

  waitEndsAt(): number {
    this.#waitEndsAt ??= this.#ask('nextWaitEnd')
    return this.#waitEndsAt
  }

  /** A task was written that becomes ready then. */
  addReady(at: number): void {
    if (this.#readyAt !== null) this.#readyAt = Math.min(this.#readyAt, at)
  }

  /** A task was written whose wait for its first start ends then. */
  addWaitEnd(at: number): void {
    if (this.#waitEndsAt !== null) this.#waitEndsAt = Math.min(this.#waitEndsAt, at)
  }

  /** What was due was handled, another process has written, or a transaction was rolled back: the file knows. */
  forget(): void {
    this.#readyAt = null
    this.#waitEndsAt = null
  }

  #ask(statement: 'nextReady' | 'nextWaitEnd'): number {
    return (this.#store.get(statement)!.at as number | null) ?? Number.POSITIVE_INFINITY
  }
}
