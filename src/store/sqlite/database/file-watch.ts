import { type FSWatcher, watch } from 'node:fs'

/** Checks beside the reports of the file system, and without them: some file systems report no changes. */
const CHECK_MS = 1_000
const CHECK_UNREPORTED_MS = 100
/** The writer appends to the log first, which is reported, and shows its change to other processes then. */
const CHECK_AGAIN_MS = 5

/**
 * Calls `check` when another process may have written: soon after each change of the log, and at intervals in any case.
 * Once a check at intervals finds a change that was not reported, the intervals are short.
 */
export class FileWatch {
  readonly #check: () => boolean
  readonly #watcher: FSWatcher | undefined
  #timer: NodeJS.Timeout
  #again: NodeJS.Timeout | undefined
  #scheduled = false
  #reports = 0
  #closed = false

  /**
   * @param path of the database; null for one in memory, which other threads may still write
   * @param check returns whether something was written
   */
  constructor(path: string | null, check: () => boolean) {
    this.#check = check
    if (path !== null) this.#watcher = this.#watch(`${path}-wal`)
    this.#timer = this.#every(this.#watcher ? CHECK_MS : CHECK_UNREPORTED_MS)
  }

  close(): void {
    this.#closed = true
    clearInterval(this.#timer)
    clearTimeout(this.#again)
    this.#watcher?.close()
  }

  #watch(path: string): FSWatcher | undefined {
    try {
      const watcher = watch(path, { persistent: false }, () => {
        this.#reports += 1
        if (this.#scheduled) return
        this.#scheduled = true
        setImmediate(() => this.#checkReported())
      })
      watcher.on('error', () => {
        watcher.close()
        this.#distrust()
      })
      return watcher
    } catch {
      // There is no file, or nothing that reports its changes.
      return undefined
    }
  }

  #checkReported(): void {
    this.#scheduled = false
    if (this.#closed || this.#check()) return
    this.#again ??= setTimeout(() => {
      this.#again = undefined
      this.#check()
    }, CHECK_AGAIN_MS).unref()
  }

  #every(ms: number): NodeJS.Timeout {
    let reports = this.#reports
    const timer = setInterval(() => {
      const before = reports
      reports = this.#reports
      if (!this.#check() || ms === CHECK_UNREPORTED_MS) return
      // A report that is under way is received before the next pass of the event loop.
      setImmediate(() => this.#reports === before && this.#distrust())
    }, ms)
    return timer.unref()
  }

  #distrust(): void {
    if (this.#closed) return
    clearInterval(this.#timer)
    this.#timer = this.#every(CHECK_UNREPORTED_MS)
  }
}
