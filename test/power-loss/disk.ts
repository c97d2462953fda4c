import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import type { SeededRandom } from '../simulation/random.ts'
import { append, type Entry, readJournal } from './journal.ts'

/** A disk writes a sector whole or not at all. */
const SECTOR_BYTES = 512

/**
 * What a loss of power leaves of changes that were not synced.
 * `none`, `all`: no change, each change. `prefix`: the first ones, the last of them torn within. `sectors`: any sectors
 * of any writes, as a disk may reorder them.
 */
export const LOSSES = ['none', 'all', 'prefix', 'sectors'] as const
export type Loss = (typeof LOSSES)[number]

type Change = { since: number } & ({ length: number } | { at: number; bytes: Buffer })
interface File {
  /** As it is on the disk for certain. */
  durable: Bytes
  /** Changes since then, oldest first. */
  pending: Change[]
}
/** A change of the names in a folder. */
interface Naming {
  since: number
  folder: string
  apply: (names: Map<string, File>) => void
}

/**
 * A folder as a disk has it after a loss of power, from the journal of its changes. A sync of a file makes durable the
 * changes of its content that were done before the sync began; only a sync of a folder makes names durable, in their
 * order. File systems keep more than that.
 */
export class Disk {
  readonly #folder: string
  /** The names now, and those that are on the disk for certain. */
  readonly #names = new Map<string, File>()
  readonly #durableNames = new Map<string, File>()
  #namings: Naming[] = []
  readonly #byNumber = new Map<bigint, File>()
  readonly #folders: Set<string>
  readonly #folderNumbers = new Map<bigint, string>()
  readonly #syncs = new Map<string, number>()
  #position = 0

  /** @param folder an empty one when the journal began */
  constructor(folder: string) {
    this.#folder = folder
    this.#folders = new Set([folder])
  }

  /** Goes on to the position before entry `end` of the journal. */
  advance(entries: readonly Entry[], end: number): void {
    for (; this.#position < end; this.#position++) this.#carryOut(entries[this.#position]!)
  }

  /** The files that differ from those of the folder, which the journal was recorded of. */
  differences(): string[] {
    const paths = readdirSync(this.#folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && !entry.name.endsWith('-shm'))
      .map(({ parentPath, name }) => join(parentPath, name))
    return [...new Set([...paths, ...this.#names.keys()])].filter((path) => {
      const file = this.#names.get(path)
      if (!file || !existsSync(path)) return true
      const bytes = file.durable.copy()
      for (const change of file.pending) bytes.change(change)
      return !bytes.view.equals(readFileSync(path))
    })
  }

  /** Writes the folder as a loss of power at this position may leave it. */
  leave(target: string, loss: Loss, random: SeededRandom): void {
    for (const folder of this.#folders) mkdirSync(join(target, relative(this.#folder, folder)), { recursive: true })
    for (const [path, file] of this.#namesLeft(loss, random)) {
      const bytes = file.pending.length === 0 ? file.durable : contentLeft(file, loss, random)
      const place = join(target, relative(this.#folder, path))
      writeFileSync(place, bytes.view)
      // Shared memory of a database may be anything after a loss of power.
      if (path.endsWith('-wal') && random.chance(0.5)) writeFileSync(place.replace(/wal$/, 'shm'), noise(random))
    }
  }

  #carryOut({ kind, pid, file, at, bytes }: Entry): void {
    const since = this.#position
    const text = () => bytes.toString()
    switch (kind) {
      case 'open':
        this.#open(text(), file, at !== 0n)
        break
      case 'write':
        this.#byNumber.get(file)?.pending.push({ since, at: Number(at), bytes })
        break
      case 'truncate':
        this.#byNumber.get(file)?.pending.push({ since, length: Number(at) })
        break
      case 'syncBegin':
        this.#syncs.set(`${pid} ${at}`, since)
        break
      case 'syncEnd':
        this.#synced(file, this.#syncs.get(`${pid} ${at}`) ?? -1)
        break
      case 'mkdir':
        this.#folders.add(text())
        break
      case 'unlink':
        this.#name(dirname(text()), (names) => names.delete(text()))
        break
      case 'rename': {
        const [from, to] = text().split('\0') as [string, string]
        const moved = this.#names.get(from)
        this.#name(dirname(to), (names) => {
          names.delete(from)
          if (moved) names.set(to, moved)
        })
        break
      }
      case 'mark':
    }
  }

  #open(path: string, number: bigint, empties: boolean): void {
    if (this.#folders.has(path)) {
      this.#folderNumbers.set(number, path)
      return
    }
    const known = this.#names.get(path)
    if (!known || this.#byNumber.get(number) !== known) {
      const file: File = { durable: new Bytes(), pending: [] }
      this.#byNumber.set(number, file)
      this.#name(dirname(path), (names) => names.set(path, file))
    } else if (empties) known.pending.push({ since: this.#position, length: 0 })
  }

  #name(folder: string, apply: Naming['apply']): void {
    apply(this.#names)
    this.#namings.push({ since: this.#position, folder, apply })
  }

  #synced(number: bigint, begun: number): void {
    const folder = this.#folderNumbers.get(number)
    if (folder !== undefined) {
      const isDone = (naming: Naming) => naming.folder === folder && naming.since < begun
      for (const { apply } of this.#namings.filter(isDone)) apply(this.#durableNames)
      this.#namings = this.#namings.filter((naming) => !isDone(naming))
    }
    const file = this.#byNumber.get(number)
    if (!file) return
    const done = file.pending.findIndex(({ since }) => since > begun)
    for (const change of file.pending.splice(0, done === -1 ? file.pending.length : done)) file.durable.change(change)
  }

  #namesLeft(loss: Loss, random: SeededRandom): Map<string, File> {
    const names = new Map(this.#durableNames)
    for (const [folder, namings] of Map.groupBy(this.#namings, ({ folder }) => folder)) {
      if (!this.#folders.has(folder)) throw new Error(`${folder} is not known`)
      for (const { apply } of namings.slice(0, countLeft(namings.length, loss, random))) apply(names)
    }
    return names
  }
}

/**
 * Records changes that a killed process has done and not recorded, at most one for each process.
 * @returns their number
 */
export function reconcile(folder: string, journal: string): number {
  const disk = new Disk(folder)
  const entries = readJournal(journal)
  disk.advance(entries, entries.length)
  const differences = disk.differences()
  for (const path of differences) {
    if (existsSync(path)) {
      const [file, bytes] = [BigInt(statSync(path).ino), readFileSync(path)]
      append(journal, 'open', Buffer.from(path), file)
      append(journal, 'write', bytes, file)
      append(journal, 'truncate', Buffer.alloc(0), file, BigInt(bytes.length))
    } else append(journal, 'unlink', Buffer.from(path))
  }
  return differences.length
}

function countLeft(count: number, loss: Loss, random: SeededRandom): number {
  if (loss === 'none') return 0
  return loss === 'all' ? count : random.between(0, count)
}

function contentLeft({ durable, pending }: File, loss: Loss, random: SeededRandom): Bytes {
  const bytes = durable.copy()
  if (loss === 'sectors') {
    const share = random.next()
    for (const change of pending.flatMap(inSectors)) if (random.chance(share)) bytes.change(change)
    return bytes
  }
  const left = countLeft(pending.length, loss, random)
  for (const change of pending.slice(0, left)) bytes.change(change)
  if (loss === 'prefix' && left < pending.length) {
    const torn = inSectors(pending[left]!)
    for (const part of torn.slice(0, random.between(0, torn.length - 1))) bytes.change(part)
  }
  return bytes
}

/** The parts of a write that a disk may write apart from each other. */
function inSectors(change: Change): Change[] {
  if ('length' in change) return [change]
  const { since, at, bytes } = change
  const parts: Change[] = []
  for (let from = 0; from < bytes.length; ) {
    const to = Math.min(bytes.length, from + SECTOR_BYTES - ((at + from) % SECTOR_BYTES))
    parts.push({ since, at: at + from, bytes: bytes.subarray(from, to) })
    from = to
  }
  return parts
}

function noise(random: SeededRandom): Buffer {
  return Buffer.from(Array.from({ length: 32_768 }, () => Math.floor(random.next() * 256)))
}

/** The content of a file, which grows. What was never written is zero. */
class Bytes {
  #buffer = Buffer.alloc(0)
  #length = 0

  get view(): Buffer {
    return this.#buffer.subarray(0, this.#length)
  }

  change(change: Change): void {
    if ('length' in change) this.#resize(change.length)
    else {
      this.#resize(Math.max(this.#length, change.at + change.bytes.length))
      change.bytes.copy(this.#buffer, change.at)
    }
  }

  copy(): Bytes {
    const copy = new Bytes()
    copy.#buffer = Buffer.from(this.view)
    copy.#length = this.#length
    return copy
  }

  #resize(length: number): void {
    if (length > this.#buffer.length) {
      const larger = Buffer.alloc(Math.max(length, 2 * this.#buffer.length))
      this.view.copy(larger)
      this.#buffer = larger
    } else if (length < this.#length) this.#buffer.fill(0, length, this.#length)
    this.#length = length
  }
}
