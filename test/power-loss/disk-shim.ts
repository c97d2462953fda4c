import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, realpathSync, renameSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { installCompiler } from '../fixtures/installed.ts'
import { root } from '../fixtures/root.ts'

const SOURCE = join(import.meta.dirname, 'disk-shim.c')
const LIBRARY = join(root, '.cache/disk-shim', `${process.arch}.so`)
/** Longest time that a sync takes, as on a disk. */
const SYNC_US = 6_000

/**
 * Environment of a program whose changes below `folder` are recorded in the file `journal`, see disk-shim.c.
 * @returns words for the command line, before the program
 */
export function recording(folder: string, journal: string): string[] {
  const variables = {
    LD_PRELOAD: compiled(),
    DISK_SHIM_FOLDER: realpathSync(folder),
    DISK_SHIM_JOURNAL: journal,
    DISK_SHIM_SYNC_US: SYNC_US,
  }
  return ['env', ...Object.entries(variables).map(([name, value]) => `${name}=${value}`)]
}

function compiled(): string {
  if (existsSync(LIBRARY) && statSync(LIBRARY).mtimeMs > statSync(SOURCE).mtimeMs) return LIBRARY
  installCompiler()
  mkdirSync(join(LIBRARY, '..'), { recursive: true })
  const part = `${LIBRARY}.${process.pid}`
  try {
    // Neither headers nor libraries: the program that loads it has the C library.
    execFileSync('tcc', ['-shared', '-nostdinc', '-nostdlib', '-o', part, SOURCE], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    renameSync(part, LIBRARY)
  } finally {
    rmSync(part, { force: true })
  }
  return LIBRARY
}
