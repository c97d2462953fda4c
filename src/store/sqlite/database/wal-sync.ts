import { closeSync, fdatasync, openSync, realpathSync } from 'node:fs'

/** Commits that no caller waits for are synced this much later: one sync for very many commits. */
const LAZY_MS = 5

interface Waiting {
  upTo: number
  resolve: () => void
  reject: (error: unknown) => void
}

/**
 * Brings commits to the disk off the event loop: SQLite writes them into the write-ahead log, and one fdatasync of that
 * file at a time makes durable everything that was written before it began. It is the same sync that synchronous=FULL
 * does inside each commit, with the same promise to callers that wait for `durable`, but the next transactions run
 * while it is under way.
 *
 * The log is never replaced while the database is open, and SQLite holds no lock on it, so opening a second descriptor
 * is safe (closing one on a locked file would drop the locks).
 */
export class WalSync {
  readonly #fd: number | null
  readonly #emptyLog: () => void
  /** A sync has failed since the log was empty. */
  #mayHaveGaps = false
  #written = 0
  #synced = 0
  #syncing = false
  #waiting: Waiting[] = []
  #lazy: NodeJS.Timeout | undefined

  /**
   * @param path of the database; null where a commit needs no sync (memory, synchronous=NORMAL)
   * @param emptyLog moves all changes from the log into the database, and syncs that. A failed sync may have dropped
   *   any part of the log from memory, and the next one succeeds without it: all behind that part would be lost.
   */
  constructor(path: string | null, emptyLog: () => void) {
    this.#emptyLog = emptyLog
    this.#fd = path === null ? null : openSync(`${realpathSync(path)}-wal`, 'r+')
  }

  /** Records a commit, by this process or another. */
  committed(): void {
    if (this.#fd === null) return
    this.#written += 1
    this.#lazy ??= setTimeout(() => this.#sync(), LAZY_MS)
  }

  get isOn(): boolean {
    return this.#fd !== null
  }

  /** Whether committed data may still be lost with a power loss. */
  get isBehind(): boolean {
    return this.#synced < this.#written
  }

  /** Resolves when everything committed until now survives a power loss. @throws the error of fdatasync */
  durable(): Promise<void> {
    if (!this.isBehind) return Promise.resolve()
    return new Promise((resolve, reject) => {
      this.#waiting.push({ upTo: this.#written, resolve, reject })
      this.#sync()
    })
  }

  async close(): Promise<void> {
    if (this.#fd === null) return
    await this.durable().catch(() => undefined) // Callers that wait receive the error.
    clearTimeout(this.#lazy)
    closeSync(this.#fd)
  }

  #sync(): void {
    if (this.#syncing || !this.isBehind) return
    this.#syncing = true
    clearTimeout(this.#lazy)
    this.#lazy = undefined
    const upTo = this.#written
    try {
      if (this.#mayHaveGaps) this.#emptyLog()
      this.#mayHaveGaps = false
    } catch (error) {
      return void setImmediate(() => this.#synchronized(upTo, error))
    }
    fdatasync(this.#fd!, (error) => this.#synchronized(upTo, error))
  }

  #synchronized(upTo: number, error: unknown): void {
    this.#syncing = false
    const done = this.#waiting.filter((waiting) => waiting.upTo <= upTo)
    this.#waiting = this.#waiting.filter((waiting) => waiting.upTo > upTo)
    if (error) this.#mayHaveGaps = true
    else this.#synced = upTo
    for (const { resolve, reject } of done) error ? reject(error) : resolve()
    if (this.#waiting.length > 0) this.#sync()
    else if (this.isBehind) this.#lazy ??= setTimeout(() => this.#sync(), LAZY_MS)
  }
}
