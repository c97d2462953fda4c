import { type FSWatcher, watch } from 'node:fs'

/** Changes are told by the file system; this often they are looked for in case that fails. */
const LOOK_AGAIN_MS = 100

/** Calls `look` when another process may have written: soon after each change of the log, and now and then anyway. */
export class FileWatch {
  readonly #lookAgain: NodeJS.Timeout
  #watcher: FSWatcher | undefined
  #scheduled = false

  /** @param path of the database; null for one in memory, which other threads may still write */
  constructor(path: string | null, look: () => void) {
    this.#lookAgain = setInterval(look, LOOK_AGAIN_MS)
    this.#lookAgain.unref()
    if (path === null) return
    try {
      this.#watcher = watch(`${path}-wal`, { persistent: false }, () => {
        if (this.#scheduled) return
        this.#scheduled = true
        setImmediate(() => {
          this.#scheduled = false
          look()
        })
      })
      this.#watcher.on('error', () => this.#watcher?.close())
    } catch {
      // Some file systems tell nothing: the look every LOOK_AGAIN_MS does it alone.
    }
  }

  close(): void {
    clearInterval(this.#lookAgain)
    this.#watcher?.close()
  }
}
