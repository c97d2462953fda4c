import { execFileSync } from 'node:child_process'
import {
  closeSync,
  existsSync,
  fstatSync,
  openSync,
  readFileSync,
  readSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { isDeepStrictEqual } from 'node:util'
import { XQueueError } from '../../../task/errors.ts'

/**
 * SQLite reads its log up to the first frame that is not as it was written, and ignores the rest without an error:
 * after a loss of power, the rest was never synced. But if the machine has run ever since, every frame was written, and
 * a frame that is ignored is damage that would lose accepted tasks. So this check reads the log before SQLite does. The
 * index of the log (`-shm`), which a killed process leaves, has the number of frames; without it, whole transactions
 * behind an invalid frame prove the damage.
 *
 * Formats: https://www.sqlite.org/walformat.html
 */

const FILE_BEGINS = 'SQLite format 3\0'
const HEADER_BYTES = 32
const FRAME_HEADER_BYTES = 24
/** Words are little-endian. A log with the other order is from another kind of processor, and is not checked. */
const MAGIC = 0x377f0682
const CHUNK_BYTES = 1_048_576
const INDEX_VERSION = 3_007_000
/** Number of the transactions behind an invalid frame that prove damage: a killed process may leave one. */
const COMMITS_PROVING = 2
/** A log that another process is writing to may appear damaged for a moment. Two equal readings of one state count. */
const READINGS = 4
const READ_AGAIN_MS = 20

/**
 * @param boot names the time since the last start of the machine; null: not known
 * @throws XQueueError `engine_unusable` that names the damaged file and the remedies
 */
export function refuseDamagedLog(path: string, boot = currentBoot()): void {
  const database = existsSync(path) ? realpathSync(path) : path
  const isSameBoot = boot !== null && lastBoot(database) === boot
  let damage: string | null = null
  for (let reading = 0; reading < READINGS; reading++) {
    if (reading > 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, READ_AGAIN_MS)
    const expected = isSameBoot ? indexOf(`${database}-shm`) : null
    const found = damageOf(database, isSameBoot, expected)
    if (found === null) return
    const isStill = !isSameBoot || isDeepStrictEqual(indexOf(`${database}-shm`), expected)
    if (isStill && found === damage) throw new XQueueError('engine_unusable', damage)
    damage = isStill ? found : null
  }
}

/** Records beside the database that this start of the machine has used it. */
export function rememberBoot(path: string, boot = currentBoot()): void {
  const database = realpathSync(path)
  if (boot === null || lastBoot(database) === boot) return
  try {
    writeFileSync(bootFile(database), boot, { mode: 0o600 })
  } catch {
    // The next check knows less.
  }
}

/** The last connection has written the whole log into the database, so there is nothing left to check. */
export function forgetBoot(path: string): void {
  const database = realpathSync(path)
  if (!existsSync(`${database}-wal`)) rmSync(bootFile(database), { force: true })
}

/** @returns what is wrong, and the remedies */
function damageOf(database: string, isSameBoot: boolean, expected: Index | null): string | null {
  const [log, index] = [`${database}-wal`, `${database}-shm`]
  const remedy = (command: string) =>
    `stop its processes and restore the database from a backup, or lose these changes: ${command}`
  const size = statSync(log, { throwIfNoEntry: false })?.size ?? 0
  // SQLite would delete the log.
  if (size > HEADER_BYTES && !statSync(database, { throwIfNoEntry: false })?.size) {
    return `${database} is missing or empty, and its log ${log} is not: ${remedy(`rm -f ${database} ${log} ${index}`)}`
  }
  if (size <= HEADER_BYTES && isCutWithinPage(database)) {
    return `${database} is cut within its last page: restore it from a backup`
  }
  const found = size > HEADER_BYTES ? readLog(log) : NOTHING
  if (found === null) return null
  if (found.salt === null) return `the header of ${log} is damaged: ${remedy(`rm -f ${log} ${index}`)}`
  const isShort = expected !== null && expected.frames > found.frames
  const isMissing = isShort && (expected.salt === found.salt || size <= HEADER_BYTES)
  if (!isMissing && !(isSameBoot && found.commitsBehind >= COMMITS_PROVING)) return null
  const what = `${log} is damaged or cut at byte ${found.end}, and the changes behind it cannot be read`
  const cut = found.end === 0 ? `rm -f ${log} ${index}` : `truncate -s ${found.end} ${log}; rm -f ${index}`
  return `${what}: ${remedy(cut)}`
}

/** Without a log, nothing is under way that would write the rest of the page. */
function isCutWithinPage(database: string): boolean {
  const size = statSync(database, { throwIfNoEntry: false })?.size ?? 0
  if (size === 0) return false
  const header = firstBytes(database, 18)
  if (!header.toString('latin1').startsWith(FILE_BEGINS)) return false
  const pageBytes = header.readUInt16BE(16)
  return size % (pageBytes === 1 ? 65_536 : pageBytes) !== 0
}

interface Found {
  /** Names this use of the file, which is written from the start again and again; null: the header is damaged. */
  salt: string | null
  /** The valid frames up to the last transaction, and their end. */
  frames: number
  end: number
  /** Valid transactions behind an invalid frame. */
  commitsBehind: number
}
const NOTHING: Found = { salt: '', frames: 0, end: 0, commitsBehind: 0 }

/** Null: it cannot be checked. SQLite reports a log that cannot be read. */
function readLog(log: string): Found | null {
  let file: number
  try {
    file = openSync(log, 'r')
  } catch {
    return null
  }
  try {
    const header = Buffer.from(new ArrayBuffer(HEADER_BYTES))
    readSync(file, header, 0, HEADER_BYTES, 0)
    if (header.readUInt32BE(0) === MAGIC + 1) return null
    const sums = new Checksum()
    sums.add(header, 0, FRAME_HEADER_BYTES)
    if (header.readUInt32BE(0) !== MAGIC || !sums.equals(header, FRAME_HEADER_BYTES)) return { ...NOTHING, salt: null }
    const pageBytes = header.readUInt32BE(8)
    const salt = header.toString('hex', 16, 24)
    return { salt, ...readFrames(file, FRAME_HEADER_BYTES + pageBytes, salt, sums) }
  } finally {
    closeSync(file)
  }
}

function readFrames(file: number, frameBytes: number, salt: string, sums: Checksum): Omit<Found, 'salt'> {
  const found = { frames: 0, end: HEADER_BYTES, commitsBehind: 0 }
  const chunk = Buffer.from(new ArrayBuffer(Math.max(1, Math.floor(CHUNK_BYTES / frameBytes)) * frameBytes))
  const frames = Math.floor((fstatSync(file).size - HEADER_BYTES) / frameBytes)
  let isWhole = true
  for (let frame = 0; frame < frames; ) {
    const read = readSync(file, chunk, 0, chunk.length, HEADER_BYTES + frame * frameBytes)
    if (read < frameBytes) break
    for (let at = 0; at + frameBytes <= read; at += frameBytes) {
      frame += 1
      const isOfThisUse = chunk.toString('hex', at + 8, at + 16) === salt
      if (isOfThisUse) {
        sums.add(chunk, at, 8)
        sums.add(chunk, at + FRAME_HEADER_BYTES, frameBytes - FRAME_HEADER_BYTES)
      }
      const isValid = isOfThisUse && sums.equals(chunk, at + 16)
      // What a frame says of itself is what the next one continues, although it may be damaged.
      sums.set(chunk, at + 16)
      isWhole &&= isValid
      const commits = isValid && chunk.readUInt32BE(at + 4) !== 0
      if (commits && isWhole) Object.assign(found, { frames: frame, end: HEADER_BYTES + frame * frameBytes })
      else if (commits) found.commitsBehind += 1
    }
  }
  return found
}

interface Index {
  /** Counts the transactions. */
  changes: number
  /** The number of committed frames, and the log that they are in. */
  frames: number
  salt: string
}

/** Null: there is no index, or it was not written whole. */
function indexOf(index: string): Index | null {
  const COPY_BYTES = 48
  if (!existsSync(index)) return null
  const bytes = firstBytes(index, 2 * COPY_BYTES)
  const [first, second] = [bytes.subarray(0, COPY_BYTES), bytes.subarray(COPY_BYTES)]
  if (second.length < COPY_BYTES || !first.equals(second) || first.readUInt32LE(0) !== INDEX_VERSION) return null
  const aligned = Buffer.from(new ArrayBuffer(COPY_BYTES))
  first.copy(aligned)
  const sums = new Checksum()
  sums.add(aligned, 0, COPY_BYTES - 8)
  if (sums.first !== aligned.readUInt32LE(40) || sums.second !== aligned.readUInt32LE(44)) return null
  return { changes: aligned.readUInt32LE(8), frames: aligned.readUInt32LE(16), salt: aligned.toString('hex', 32, 40) }
}

/**
 * Read by another process: if this one has the database open, closing the file here would drop SQLite's locks on it.
 */
function firstBytes(file: string, count: number): Buffer {
  try {
    return execFileSync('head', ['-c', String(count), file], { stdio: ['ignore', 'pipe', 'ignore'] })
  } catch {
    return Buffer.alloc(0)
  }
}

/** The checksum of the format: two sums over pairs of words. Buffers must be aligned to words. */
class Checksum {
  first = 0
  second = 0

  add(bytes: Buffer, from: number, length: number): void {
    const words = new Int32Array(bytes.buffer, bytes.byteOffset + from, length / 4)
    let [first, second] = [this.first | 0, this.second | 0]
    for (let at = 0; at < words.length; at += 2) {
      first = (first + words[at]! + second) | 0
      second = (second + words[at + 1]! + first) | 0
    }
    this.first = first >>> 0
    this.second = second >>> 0
  }

  set(bytes: Buffer, from: number): void {
    this.first = bytes.readUInt32BE(from)
    this.second = bytes.readUInt32BE(from + 4)
  }

  equals(bytes: Buffer, from: number): boolean {
    return this.first === bytes.readUInt32BE(from) && this.second === bytes.readUInt32BE(from + 4)
  }
}

function bootFile(database: string): string {
  return `${database}-boot`
}

function lastBoot(database: string): string | null {
  const file = bootFile(database)
  return existsSync(file) ? readFileSync(file, 'utf8') : null
}

/** Linux names each start of the machine. Containers have the name of their machine. */
function currentBoot(): string | null {
  const file = '/proc/sys/kernel/random/boot_id'
  return existsSync(file) ? readFileSync(file, 'utf8').trim() : null
}
