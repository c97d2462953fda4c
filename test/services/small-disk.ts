import { execFileSync } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, rmdirSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const PART = Buffer.alloc(64 * 1024)

/** A disk of so many megabytes, in memory. Only root may mount one. */
export class SmallDisk {
  readonly folder = mkdtempSync(join(tmpdir(), 'xqueue-disk-'))

  constructor(megabytes: number) {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m`, 'xqueue-test', this.folder])
    process.once('exit', this.#unmount)
  }

  /** Takes what is free, to the last byte. */
  fill(): void {
    const file = openSync(join(this.folder, 'ballast'), 'a')
    for (let part = PART; part.length > 0; ) {
      try {
        writeSync(file, part)
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
        part = part.subarray(0, Math.floor(part.length / 2))
      }
    }
    closeSync(file)
  }

  makeRoom(): void {
    rmSync(join(this.folder, 'ballast'))
  }

  remove(): void {
    process.off('exit', this.#unmount)
    this.#unmount()
    rmdirSync(this.folder)
  }

  readonly #unmount = () => {
    // Lazily: whoever still has a file open there keeps it until it is closed.
    execFileSync('umount', ['--lazy', this.folder])
  }
}
