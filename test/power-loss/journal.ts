import { appendFileSync, readFileSync } from 'node:fs'

/** The kinds of disk-shim.c, and marks of the test. */
const KINDS = {
  open: 1,
  write: 2,
  truncate: 3,
  syncBegin: 4,
  syncEnd: 5,
  rename: 6,
  unlink: 7,
  mkdir: 8,
  mark: 100,
} as const
export type Kind = keyof typeof KINDS

/** One entry: a change of a file, a sync of it, or a mark. */
export interface Entry {
  kind: Kind
  pid: number
  /** Number of the file (inode), which may be used again after the file is gone. */
  file: bigint
  /** Offset of a write, length of a truncation, mark of a sync; 1 for an open that empties the file. */
  at: bigint
  /** What was written, or a path; two paths for a new name. */
  bytes: Buffer
}

const HEAD_BYTES = 40
const MAGIC = Buffer.alloc(8)
MAGIC.writeBigUInt64LE(0x4b53494451584acen)
const NAMES = new Map(Object.entries(KINDS).map(([name, number]) => [number as number, name as Kind]))

/** Appends an entry to a journal that other processes write as well, in the same way as they do. */
export function append(journal: string, kind: Kind, bytes: Buffer, file = 0n, at = 0n): void {
  const head = Buffer.alloc(HEAD_BYTES)
  MAGIC.copy(head)
  head.writeUInt32LE(KINDS[kind], 8)
  head.writeUInt32LE(process.pid, 12)
  head.writeBigUInt64LE(file, 16)
  head.writeBigUInt64LE(at, 24)
  head.writeBigUInt64LE(BigInt(bytes.length), 32)
  appendFileSync(journal, Buffer.concat([head, bytes]))
}

/** Marks the present moment. */
export function mark(journal: string, what: object): void {
  append(journal, 'mark', Buffer.from(JSON.stringify(what)))
}

/** The whole entries so far: a process that is killed may leave a part of one. */
export function readJournal(journal: string): Entry[] {
  const all = readFileSync(journal)
  const entries: Entry[] = []
  for (let from = 0; from + HEAD_BYTES <= all.length; ) {
    const end = from + HEAD_BYTES + Number(all.readBigUInt64LE(from + 32))
    const isWhole = end <= all.length && (end + MAGIC.length > all.length || MAGIC.equals(all.subarray(end, end + 8)))
    if (isWhole) {
      const kind = NAMES.get(all.readUInt32LE(from + 8))
      if (!kind) throw new Error(`the journal is damaged at byte ${from}`)
      const [file, at] = [all.readBigUInt64LE(from + 16), all.readBigUInt64LE(from + 24)]
      entries.push({ kind, pid: all.readUInt32LE(from + 12), file, at, bytes: all.subarray(from + HEAD_BYTES, end) })
    }
    from = isWhole ? end : all.indexOf(MAGIC, from + 1)
    if (from === -1) break
  }
  return entries
}
