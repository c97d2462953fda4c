import { readFileSync } from 'node:fs'
import { DatabaseSync, type StatementSync } from 'node:sqlite'
import { XQueueError } from '../../task/errors.ts'
import { createPrivateFile } from '../private-files.ts'
import { WalSync } from './wal-sync.ts'

/** Written into the file's header, so that another program's database is recognised: "XQue". */
const APPLICATION_ID = 0x58517565
const SCHEMA_VERSION = 12
/** Twice the size of a log between checkpoints. A log that grew because a long read held it up is cut to this. */
const WAL_BYTES_KEPT = 128 * 1_024 * 1_024
const MEMORY_BUSY_MS = 1_000
const OPEN_PAUSE_MS = 2
const STATEMENT_FILES = [
  ...['transaction', 'tasks', 'leases', 'ring', 'rate-log', 'types', 'workers', 'events', 'readers', 'keys'],
  ...['schedules', 'flows', 'space'],
]

export type Value = string | number | null
export type Row = Record<string, Value>

/** The file and its prepared statements. Statements are named in `sql/*.sql`; nothing else here knows SQL. */
export class Store {
  readonly db: DatabaseSync
  readonly sync: WalSync
  readonly path: string
  readonly inMemory: boolean
  readonly #statements = new Map<string, StatementSync>()

  /** @throws XQueueError `engine_unusable` | `engine_unavailable` */
  constructor(path: string, inMemory: boolean, synchronous: 'FULL' | 'NORMAL', openWaitMs: number) {
    this.path = path
    this.inMemory = inMemory
    try {
      if (!inMemory) createPrivateFile(path)
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
      // From here on a busy file is waited for without blocking the event loop, and the log is synced by ourselves.
      // In memory there is no log: a commit waits for the reads of other threads, which take microseconds.
      // What is deleted or replaced within a page is overwritten there, so that erased tasks leave nothing behind.
      this.db.exec('PRAGMA secure_delete = FAST')
      this.db.exec(`PRAGMA busy_timeout = ${inMemory ? MEMORY_BUSY_MS : 0}; PRAGMA synchronous = NORMAL`)
      this.sync = new WalSync(inMemory || synchronous === 'NORMAL' ? null : path)
    } catch (error) {
      this.db.close()
      throw storeError(error, path)
    }
  }

  all(name: string, ...values: Value[]): Row[] {
    return this.#statement(name).all(...values) as Row[]
  }

  /** For the statements that say "as arrays": where rows are many, objects cost twice as much. */
  arrays(name: string, ...values: Value[]): Value[][] {
    return this.#statement(name).all(...values) as unknown as Value[][]
  }

  /** Row by row: whoever stops early has read no more than that. */
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

  /** Returns how many rows it changed. */
  run(name: string, ...values: Value[]): number {
    return this.#statement(name).run(...values).changes as number
  }

  /** Has several reads see the file as it is at one moment, whatever other processes write meanwhile. */
  atOneMoment<T>(read: () => T): T {
    this.run('beginRead')
    try {
      return read()
    } finally {
      this.run('commit')
    }
  }

  /** Overwrites in the file also the pages that `work` frees; others keep their content until they are used again. */
  overwriting<T>(work: () => T): T {
    this.db.exec('PRAGMA secure_delete = ON')
    try {
      return work()
    } finally {
      this.db.exec('PRAGMA secure_delete = FAST')
    }
  }

  /** A query whose text depends on the filter asked for. */
  query(sql: string, ...values: Value[]): Row[] {
    return this.db.prepare(sql).all(...values) as Row[]
  }

  /** Writes a page that says what it said before: whether the file can be written is known only by writing. */
  writeNothing(): void {
    this.db.exec(`PRAGMA user_version = ${SCHEMA_VERSION}`)
  }

  #statement(name: string): StatementSync {
    const statement = this.#statements.get(name)
    if (!statement) throw new Error(`no SQL statement is named ${name}`)
    return statement
  }

  /** SQLite does not wait by itself for another process that is just doing the same with a new file. */
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
    // In this order: should another process be making the schema, its mark is there when its tables are.
    const tables = (db.prepare('SELECT count(*) AS n FROM sqlite_schema').get() as { n: number }).n
    const application = (db.prepare('PRAGMA application_id').get() as { application_id: number }).application_id
    const version = (db.prepare('PRAGMA user_version').get() as { user_version: number }).user_version
    if (tables > 0 && application !== APPLICATION_ID) {
      throw new XQueueError('engine_unusable', `${this.path} is a database of another program: choose another file`)
    }
    if (version > SCHEMA_VERSION) {
      const detail = `${this.path} was made by a newer XQueue (schema ${version}, this one knows ${SCHEMA_VERSION})`
      throw new XQueueError('engine_unusable', `${detail}: run that version, or choose another file`)
    }
    if (!this.inMemory) {
      // It must be said before the first page is written; an older file stays as it is.
      if (tables === 0) db.exec('PRAGMA auto_vacuum = INCREMENTAL')
      this.#logAhead(openWaitMs)
    }
    db.exec(`PRAGMA synchronous = ${synchronous}; PRAGMA wal_autocheckpoint = 16000; PRAGMA cache_size = -65536`)
    db.exec(`PRAGMA journal_size_limit = ${WAL_BYTES_KEPT}`)
    db.exec('BEGIN IMMEDIATE')
    try {
      // Asked again inside the lock: another process may have made the schema meanwhile.
      const { user_version } = db.prepare('PRAGMA user_version').get() as { user_version: number }
      if (user_version < 1) db.exec(readSql('schema'))
      if (user_version < 2) db.exec(readSql('migrate-2'))
      if (user_version < 3) db.exec(readSql('migrate-3'))
      if (user_version < 4) db.exec(readSql('migrate-4'))
      if (user_version < 5) db.exec(readSql('migrate-5'))
      if (user_version < 6) db.exec(readSql('migrate-6'))
      if (user_version < 7) db.exec(readSql('migrate-7'))
      if (user_version < 8) db.exec(readSql('migrate-8'))
      if (user_version < 9) db.exec(readSql('migrate-9'))
      if (user_version < 10) db.exec(readSql('migrate-10'))
      if (user_version < 11) db.exec(readSql('migrate-11'))
      if (user_version < 12) db.exec(readSql('migrate-12'))
      if (user_version < SCHEMA_VERSION) {
        db.exec(`PRAGMA application_id = ${APPLICATION_ID}; PRAGMA user_version = ${SCHEMA_VERSION}`)
      }
      db.exec(readSql('readers-table'))
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

/** Errors, constraints, values of a wrong kind or too large: all else is about the file. */
const OF_ONE_OPERATION = [1, 18, 19, 20, 25]

/** Whether an error comes of what was to be written, and would not of something else. */
export function isOfOneOperation(error: unknown): boolean {
  const code = primaryCode(error)
  return code === undefined ? !(error instanceof XQueueError) : OF_ONE_OPERATION.includes(code)
}

/** What SQLite threw, as the error for the caller: what is wrong with which file, and the way out. */
export function storeError(error: unknown, path: string): XQueueError {
  if (error instanceof XQueueError) return error
  if ((error as NodeJS.ErrnoException)?.syscall === 'fdatasync') {
    const detail = `${path}: the log could not be brought to the disk (${(error as Error).message}): check the disk`
    return new XQueueError('engine_unavailable', detail, { retry_after: 1 }, { cause: error })
  }
  const code = primaryCode(error)
  const because = error instanceof Error ? error.message : String(error)
  if (code === undefined) return new XQueueError('internal', because, {}, { cause: error })
  if (UNUSABLE.includes(code)) {
    const detail = `${path} is corrupt or no SQLite database (${because})`
    return new XQueueError('engine_unusable', `${detail}: restore it from a backup, or choose another file`)
  }
  const remedy: Record<number, string> = {
    5: 'another process holds its lock: end that process, or wait',
    6: 'another process holds its lock: end that process, or wait',
    8: 'it is read-only: make the file and its folder writable',
    10: 'reading or writing failed: check the disk',
    13: 'the disk is full: make room',
    14: 'it cannot be opened: check that the folder exists and is writable, and that the path is a file',
  }
  const detail = `${path}: ${remedy[code] ?? because} (${because})`
  return new XQueueError('engine_unavailable', detail, { retry_after: 1 }, { cause: error })
}

function primaryCode(error: unknown): number | undefined {
  const { code, errcode } = (error ?? {}) as { code?: string; errcode?: number }
  return code === 'ERR_SQLITE_ERROR' && errcode !== undefined ? errcode & 0xff : undefined
}

function readSql(name: string): string {
  return readFileSync(new URL(`./sql/${name}.sql`, import.meta.url), 'utf8')
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
