import { accessSync, constants, existsSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { XQueueError } from '../../../task/errors.ts'
import { storeError } from './database.ts'
import { refuseDamagedLog } from './log-check.ts'
import { parseSqliteUrl } from './sqlite-url.ts'

/**
 * Returns the path of a `sqlite:` URL that no file has yet, or null.
 * @throws XQueueError `engine_unavailable` if this user cannot create a file there
 */
export function fileToCreate(url: string): string | null {
  const { path, inMemory } = parseSqliteUrl(url)
  if (inMemory || existsSync(path)) return null
  const folder = dirname(path)
  try {
    accessSync(folder, constants.W_OK | constants.X_OK)
  } catch (error) {
    const detail = `${path} cannot be created (${(error as Error).message}): create the folder, or make it writable`
    throw new XQueueError('engine_unavailable', detail)
  }
  return path
}

/**
 * Reads the whole file of a `sqlite:` URL and compares its tables with their indexes, which takes about 1.5 s for a
 * gigabyte in memory. A changed value that is still valid is not found: SQLite has no checksums of its own.
 * @returns a description of what was checked
 * @throws XQueueError `engine_unusable` that names the file and the first fault
 */
export function checkFile(url: string): string {
  const { path, inMemory } = parseSqliteUrl(url)
  if (inMemory) return 'in memory'
  if (!existsSync(path)) return 'no file yet'
  // SQLite, also in the hands of this check, would forget what it cannot read.
  refuseDamagedLog(path)
  let faults: string[]
  try {
    const database = new DatabaseSync(path, { readOnly: true })
    try {
      const rows = database.prepare('PRAGMA integrity_check(10)').all() as { integrity_check: string }[]
      faults = rows.map(({ integrity_check: fault }) => fault).filter((fault) => fault !== 'ok')
    } finally {
      database.close()
    }
  } catch (error) {
    throw storeError(error, path)
  }
  if (faults.length === 0) return 'tables and indexes agree'
  throw new XQueueError('engine_unusable', `${path} is damaged (${faults[0]}): restore it from a backup`)
}
