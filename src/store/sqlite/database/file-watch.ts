import { type FSWatcher, watch } from 'node:fs'

/** The file system reports changes; in case that fails, the file is also checked at this interval. */
const CHECK_AGAIN_MS = 100

/**
 * Calls `check` when another process may have written: soon after each change of the log, and at intervals in any case.
 */
export class FileWatch {
  readonly #timer: NodeJS.Timeout
  #watcher: FSWatcher | undefined
  #scheduled = false

  /** @param path of the database; null for one in memory, which other threads may still write */
  constructor(path: string | null, check: () => void) {
    this.#timer = setInterval(check, CHECK_AGAIN_MS)
    this.#timer.unref()
    if (path === null) return
    try {
      this.#watcher = watch(`${path}-wal`, { persistent: false }, () => {
        if (this.#scheduled) return
        this.#scheduled = true
        setImmediate(() => {
          this.#scheduled = false
          check()
        })
      })
      this.#watcher.on('error', () => this.#watcher?.close())
    } catch {
      // Some file systems report no changes: then only the check every CHECK_AGAIN_MS finds them.
    }
  }

  close(): void {
    clearInterval(this.#timer)
    this.#watcher?.close()
  }
}
