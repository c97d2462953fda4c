import { closeSync, existsSync, fchmodSync, lstatSync, openSync, readlinkSync } from 'node:fs'
import { chmod, mkdir, open, rename } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'

/** What tasks hold is for the user that the program runs as, and for nobody else on the machine. */
const FILE_MODE = 0o600
const FOLDER_MODE = 0o700

/**
 * Makes an empty file for its owner alone, whatever the umask is, unless there is one: SQLite would make a database
 * that all may read, and gives its log the mode of the database. A file that is there keeps its mode, and is not
 * opened: closing it would drop the locks that SQLite holds on it in this process. What stands in the way of that,
 * whoever opens it meets as well, and tells.
 */
export function createPrivateFile(path: string): void {
  const target = behindLinks(path)
  try {
    const file = openSync(target, 'wx', FILE_MODE)
    try {
      fchmodSync(file, FILE_MODE)
    } finally {
      closeSync(file)
    }
  } catch {
    // It is there, or cannot be made.
  }
}

/** Writes a file for its owner alone, aside and then renamed, so that nobody reads half of it; its folder likewise. */
export async function writePrivateFile(path: string, content: Uint8Array): Promise<void> {
  const folder = dirname(path)
  const made = await mkdir(folder, { recursive: true, mode: FOLDER_MODE })
  if (made !== undefined) await chmod(folder, FOLDER_MODE)
  const file = await open(`${path}.part`, 'w', FILE_MODE)
  try {
    await file.chmod(FILE_MODE)
    await file.writeFile(content)
  } finally {
    await file.close()
  }
  await rename(`${path}.part`, path)
}

/** Where a link points to that has no file yet: SQLite would make it there. */
function behindLinks(path: string): string {
  const LINKS_MAX = 40
  let target = path
  for (let links = 0; links < LINKS_MAX; links++) {
    if (existsSync(target) || !lstatSync(target, { throwIfNoEntry: false })?.isSymbolicLink()) break
    target = resolve(dirname(target), readlinkSync(target))
  }
  return target
}
