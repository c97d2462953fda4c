import type { Database } from './database.ts'

/** `PRAGMA auto_vacuum` of files that can return pages; older files cannot. */
const INCREMENTAL = 2
/** Free pages that stay in the file for future use: 16 MiB, or a quarter of the file. */
const FREE_KEPT = 4_096
const FREE_SHARE_KEPT = 0.25

/**
 * Returns space that the file no longer needs to the disk, in small steps of the sweep. SQLite by itself reuses free
 * pages but never returns them: the file would keep its largest size for ever.
 */
export class Space {
  readonly #database: Database
  readonly #canGiveBack: boolean
  #gave = false

  constructor(database: Database) {
    this.#database = database
    this.#canGiveBack = !database.inMemory && database.get('vacuumMode')!.auto_vacuum === INCREMENTAL
  }

  isTooMuch(): boolean {
    if (!this.#canGiveBack) return false
    const free = this.#database.get('freePages')!.freelist_count as number
    return free > FREE_KEPT && free > FREE_SHARE_KEPT * (this.#database.get('pages')!.page_count as number)
  }

  /** Takes one step within a transaction; true when another one is worthwhile. */
  giveBack(): boolean {
    if (!this.isTooMuch()) return false
    this.#database.all('giveBack')
    this.#gave = true
    return this.isTooMuch()
  }

  /** Truncates the file as far as possible, after the last step and outside of a transaction. */
  shrinkFile(): void {
    if (!this.#gave) return
    this.#gave = false
    this.#database.all('shrinkFile')
  }
}
