import { readFileSync } from 'node:fs'
import { DatabaseSync, type StatementSync } from 'node:sqlite'
import { XQueueError } from '../../../task/errors.ts'
import { createPrivateFile } from '../../private-files.ts'
import { forgetBoot, refuseDamagedLog, rememberBoot } from './log-check.ts'
import { WalSync } from './wal-sync.ts'

/** Written into the file's header to recognise databases of other programs: "XQue". */
const APPLICATION_ID = 0x58517565
const SCHEMA_VERSION = 21
/** Twice the size of a log between checkpoints. A log that grew because of a long read is truncated to this size. */
const WAL_BYTES_KEPT = 128 * 1_024 * 1_024
const MEMORY_BUSY_MS = 1_000
const OPEN_PAUSE_MS = 2
const STATEMENT_FILES = [
  ...[
    'database/transaction',
    'database/space',
    'records/tasks',
    'records/attempts',
    'records/logs',
    'turn/leases',
    'turn/ring',
  ],
  ...['turn/rate-log', 'turn/shared-time', 'turn/workers', 'types/types', 'events/events', 'documents/documents'],
  ...['flows/flows', 'limits/limits'],
]

/** Number of prepared statements whose text depends on a filter. */
const QUERIES_MAX = 50

export type Value = string | number | null
export type Row = Record<string, Value>

/** The file and its prepared statements, which are named in the .sql files. No other code contains SQL of its own. */
export class Database {
  readonly db: DatabaseSync
  readonly sync: WalSync
  readonly path: string
  readonly inMemory: boolean
  readonly #statements = new Map<string, StatementSync>()
  readonly #queries = new Map<string, StatementSync>()

  /** @throws XQueueError `engine_unusable` | `engine_unavailable` */
  constructor(path: string, inMemory: boolean, synchronous: 'FULL' | 'NORMAL', openWaitMs: number) {
    this.path = path
    this.inMemory = inMemory
    try {
      if (!inMemory) {
        refuseDamagedLog(path)
        createPrivateFile(path)
      }
      this.db = new DatabaseSync(path, { timeout: openWaitMs })
    } catch (error) {
      throw storeError(error, path)
    }
    try {
      this.#prepareFile(synchronous, openWaitMs)
      for (const file of STATEMENT_FILES) {
        for (const { name, asArrays, sql } of named(readSql(file))) {
          const statement = this.db.prepare(sql)
          statement.setReturnArrays(asArrays)
          this.#statements.set(name, statement)
        }
      }
      // From here on, waiting for a busy file does not block the event loop, and XQueue syncs the log itself. In memory
      // there is no log: a commit waits for the reads of other threads, which take microseconds. Data that is deleted
      // or replaced within a page is overwritten there, so that erased tasks leave no data behind.
      this.db.exec('PRAGMA secure_delete = FAST')
      this.db.exec(`PRAGMA busy_timeout = ${inMemory ? MEMORY_BUSY_MS : 0}; PRAGMA synchronous = NORMAL`)
      this.sync = new WalSync(inMemory || synchronous === 'NORMAL' ? null : path, () => this.#emptyLog())
      if (!inMemory) rememberBoot(path)
    } catch (error) {
      this.db.close()
      throw storeError(error, path)
    }
  }

  close(): void {
    this.db.close()
    if (this.inMemory) return
    try {
      forgetBoot(this.path)
    } catch {
      // The file or its folder is gone.
    }
  }

  #emptyLog(): void {
    const { busy } = this.db.prepare('PRAGMA wal_checkpoint(TRUNCATE)').get() as { busy: number }
    if (busy === 0) return
    const detail = 'the disk has failed to store a change, and the log cannot be emptied while another process reads it'
    throw new XQueueError('engine_unavailable', `${this.path}: ${detail}`)
  }

  all(name: string, ...values: Value[]): Row[] {
    return this.#statement(name).all(...values) as Row[]
  }

  /** For the statements marked "as arrays": with many rows, objects cost twice as much. */
  arrays(name: string, ...values: Value[]): Value[][] {
    return this.#statement(name).all(...values) as unknown as Value[][]
  }

  /** Row by row: a caller that stops early has read no further rows. */
  each(name: string, ...values: Value[]): Iterable<Row> {
    return this.#statement(name).iterate(...values) as Iterable<Row>
  }

  get(name: string, ...values: Value[]): Row | undefined {
    return this.#statement(name).get(...values) as Row | undefined
  }

  /** Returns the row id of an insert. */
  insert(name: string, ...values: Value[]): number {
    return this.#statement(name).run(...values).lastInsertRowid as number
  }

  /** Returns the number of changed rows. */
  run(name: string, ...values: Value[]): number {
    return this.#statement(name).run(...values).changes as number
  }

  /** Runs several reads on one snapshot of the file, regardless of the writes of other processes. */
  atOneMoment<T>(read: () => T): T {
    this.run('beginRead')
    try {
      return read()
    } finally {
      this.run('commit')
    }
  }

  /** Also overwrites the pages that `work` frees; other free pages keep their content until they are reused. */
  overwriting<T>(work: () => T): T {
    this.db.exec('PRAGMA secure_delete = ON')
    try {
      return work()
    } finally {
      this.db.exec('PRAGMA secure_delete = FAST')
    }
  }

  /** A query whose text depends on the requested filter, with its rows as arrays. The latest ones are kept prepared. */
  query(sql: string, ...values: Value[]): Value[][] {
    let statement = this.#queries.get(sql)
    if (!statement) {
      statement = this.db.prepare(sql)
      statement.setReturnArrays(true)
      if (this.#queries.size >= QUERIES_MAX) this.#queries.delete(this.#queries.keys().next().value!)
      this.#queries.set(sql, statement)
    }
    return statement.all(...values) as unknown as Value[][]
  }

  /** Rewrites a page with its present content: only a write shows whether the file is writable. */
  writeNothing(): void {
    this.db.exec(`PRAGMA user_version = ${SCHEMA_VERSION}`)
  }

  #statement(name: string): StatementSync {
    const statement = this.#statements.get(name)
    if (!statement) throw new Error(`unknown SQL statement ${name}`)
    return statement
  }

  /**
   * Enables the write-ahead log. SQLite by itself does not wait for another process that does the same with a new file.
   */
  #logAhead(openWaitMs: number): void {
    const until = performance.now() + openWaitMs
    for (;;) {
      try {
        this.db.exec('PRAGMA journal_mode = WAL')
        return
      } catch (error) {
        if (!isBusy(error) || performance.now() > until) throw error
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, OPEN_PAUSE_MS)
      }
    }
  }

  #prepareFile(synchronous: string, openWaitMs: number): void {
    const { db } = this
    // In this order: if another process is creating the schema, its version is visible when its tables are.
    const tables = (db.prepare('SELECT count(*) AS n FROM sqlite_schema').get() as { n: number }).n
    const application = (db.prepare('PRAGMA application_id').get() as { application_id: number }).application_id
    const version = (db.prepare('PRAGMA user_version').get() as { user_version: number }).user_version
    if (tables > 0 && application !== APPLICATION_ID) {
      throw new XQueueError('engine_unusable', `${this.path} is a database of another program: choose another file`)
    }
    if (version > SCHEMA_VERSION) {
      const detail = `${this.path} is from a newer XQueue (schema ${version}; this version supports ${SCHEMA_VERSION})`
      throw new XQueueError('engine_unusable', `${detail}: run that version, or choose another file`)
    }
    if (!this.inMemory) {
      // It must be set before the first page is written; an older file stays unchanged.
      if (tables === 0) db.exec('PRAGMA auto_vacuum = INCREMENTAL')
      this.#logAhead(openWaitMs)
    }
    db.exec(`PRAGMA synchronous = ${synchronous}; PRAGMA wal_autocheckpoint = 16000; PRAGMA cache_size = -65536`)
    db.exec(`PRAGMA journal_size_limit = ${WAL_BYTES_KEPT}`)
    db.exec('BEGIN IMMEDIATE')
    try {
      // Read again inside the lock: another process may have created the schema meanwhile.
      const { user_version } = db.prepare('PRAGMA user_version').get() as { user_version: number }
      if (user_version < 1) db.exec(readSql('schema/schema'))
      for (let version = 2; version <= SCHEMA_VERSION; version++) {
        if (user_version < version) db.exec(readSql(`schema/migrate-${version}`))
      }
      if (user_version < SCHEMA_VERSION) {
        db.exec(`PRAGMA application_id = ${APPLICATION_ID}; PRAGMA user_version = ${SCHEMA_VERSION}`)
      }
      db.exec('COMMIT')
    } catch (error) {
      if (db.isTransaction) db.exec('ROLLBACK')
      throw error
    }
  }
}

const BUSY = [5, 6]
const UNUSABLE = [11, 26]

export function isBusy(error: unknown): boolean {
  return BUSY.includes(primaryCode(error) ?? -1)
}

/** Errors, constraints, values of a wrong kind or too large: all other codes concern the file. */
const OF_ONE_OPERATION = [1, 18, 19, 20, 25]

/** Whether the cause of an error is the data to be written, so that other data could be written. */
export function isOfOneOperation(error: unknown): boolean {
  const code = primaryCode(error)
  return code === undefined ? !(error instanceof XQueueError) : OF_ONE_OPERATION.includes(code)
}

/**
 * Converts an error of SQLite, or of reading what it has stored, to the error for the caller: the problem, the file,
 * and the remedy.
 */
export function storeError(error: unknown, path: string): XQueueError {
  if (error instanceof XQueueError) return error
  if ((error as NodeJS.ErrnoException)?.syscall === 'fdatasync') {
    const detail = `${path}: the log could not be synced to the disk (${(error as Error).message}): check the disk`
    return new XQueueError('engine_unavailable', detail, { retry_after: 1 }, { cause: error })
  }
  const code = primaryCode(error)
  const because = error instanceof Error ? error.message : String(error)
  const isDamaged = error instanceof SyntaxError || (code === 1 && because === 'malformed JSON')
  if (code === undefined && !isDamaged) return new XQueueError('internal', because, {}, { cause: error })
  if (isDamaged || UNUSABLE.includes(code!)) {
    const detail = `${path} is corrupt or not a SQLite database (${because})`
    return new XQueueError('engine_unusable', `${detail}: restore it from a backup, or choose another file`)
  }
  const remedy: Record<number, string> = {
    5: 'another process has locked it: end that process, or wait',
    6: 'another process has locked it: end that process, or wait',
    8: 'it is read-only: make the file and its folder writable',
    10: 'reading or writing failed: check the disk',
    13: 'the disk is full: free disk space',
    14: 'it cannot be opened: check that the folder exists and is writable, and that the path is a file',
  }
  const detail = `${path}: ${remedy[code!] ?? because} (${because})`
  return new XQueueError('engine_unavailable', detail, { retry_after: 1 }, { cause: error })
}

function primaryCode(error: unknown): number | undefined {
  const { code, errcode } = (error ?? {}) as { code?: string; errcode?: number }
  return code === 'ERR_SQLITE_ERROR' && errcode !== undefined ? errcode & 0xff : undefined
}

function readSql(name: string): string {
  return readFileSync(new URL(`../${name}.sql`, import.meta.url), 'utf8')
}

function named(text: string): { name: string; asArrays: boolean; sql: string }[] {
  return text
    .split(/^-- name: /m)
    .slice(1)
    .map((part) => {
      const end = part.indexOf('\n')
      const [name, asArrays] = part.slice(0, end).split(', ')
      return { name: name!, asArrays: asArrays === 'as arrays', sql: part.slice(end + 1) }
    })
}
