import { closeSync, existsSync, fchmodSync, lstatSync, openSync, readlinkSync } from 'node:fs'
import { chmod, mkdir, open, rename } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'

/** The contents of tasks are readable only for the user that the program runs as. */
const FILE_MODE = 0o600
const FOLDER_MODE = 0o700

/**
 * Creates an empty file that only its owner can read, regardless of the umask, unless the file exists. SQLite by itself
 * would make the database readable for all users, and its log has the mode of the database. An existing file keeps its
 * mode and is not opened: closing it would drop the locks that SQLite holds on it in this process. Errors are ignored,
 * because the code that opens the file meets and reports them.
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
    // The file exists, or cannot be created.
  }
}

/**
 * Writes a file that only its owner can read, first aside and then renamed, so that no process reads an incomplete
 * file. Its folder is private as well.
 */
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

/** The target of a link to a file that does not exist yet: SQLite would create the target. */
function behindLinks(path: string): string {
  const LINKS_MAX = 40
  let target = path
  for (let links = 0; links < LINKS_MAX; links++) {
    if (existsSync(target) || !lstatSync(target, { throwIfNoEntry: false })?.isSymbolicLink()) break
    target = resolve(dirname(target), readlinkSync(target))
  }
  return target
}
