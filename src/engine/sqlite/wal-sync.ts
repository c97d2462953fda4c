import { closeSync, fdatasync, openSync, realpathSync } from 'node:fs'

/** What nobody waits for is synced this much later: one sync for very many commits. */
const LAZY_MS = 5

interface Waiting {
  upTo: number
  resolve: () => void
  reject: (error: unknown) => void
}

/**
 * Brings commits to the disk off the event loop: SQLite writes them into the write-ahead log, and one fdatasync of
 * that file at a time makes durable all that was written before it began. It is the sync that synchronous=FULL does
 * inside each commit, with the same promise to whoever waits for `durable`, but while it runs the next transactions do
 * too.
 *
 * The log is never replaced while the database is open, and no lock of SQLite's is on it, so a descriptor of our own
 * is safe (closing one on a locked file would drop the locks).
 */
export class WalSync {
  readonly #fd: number | null
  #written = 0
  #synced = 0
  #syncing = false
  #waiting: Waiting[] = []
  #lazy: NodeJS.Timeout | undefined

  /** @param path of the database; null where a commit needs no sync (memory, synchronous=NORMAL) */
  constructor(path: string | null) {
    this.#fd = path === null ? null : openSync(`${realpathSync(path)}-wal`, 'r+')
  }

  /** Tells of a commit, by this process or another. */
  committed(): void {
    if (this.#fd === null) return
    this.#written += 1
    this.#lazy ??= setTimeout(() => this.#sync(), LAZY_MS)
  }

  get isOn(): boolean {
    return this.#fd !== null
  }

  /** Whether something committed may still be lost with the power. */
  get isBehind(): boolean {
    return this.#synced < this.#written
  }

  /** Resolves when everything committed until now survives a loss of power. @throws what fdatasync met */
  durable(): Promise<void> {
    if (!this.isBehind) return Promise.resolve()
    return new Promise((resolve, reject) => {
      this.#waiting.push({ upTo: this.#written, resolve, reject })
      this.#sync()
    })
  }

  async close(): Promise<void> {
    if (this.#fd === null) return
    await this.durable().catch(() => undefined) // Who waits for it is told; here nobody is left to tell.
    clearTimeout(this.#lazy)
    closeSync(this.#fd)
  }

  #sync(): void {
    if (this.#syncing || !this.isBehind) return
    this.#syncing = true
    clearTimeout(this.#lazy)
    this.#lazy = undefined
    const upTo = this.#written
    fdatasync(this.#fd!, (error) => {
      this.#syncing = false
      const done = this.#waiting.filter((waiting) => waiting.upTo <= upTo)
      this.#waiting = this.#waiting.filter((waiting) => waiting.upTo > upTo)
      if (!error) this.#synced = upTo
      for (const { resolve, reject } of done) error ? reject(error) : resolve()
      if (this.#waiting.length > 0) this.#sync()
      else if (this.isBehind) this.#lazy ??= setTimeout(() => this.#sync(), LAZY_MS)
    })
  }
}
