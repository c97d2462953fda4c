import type { TaskSpec } from '../task/task.ts'

/**
 * Documents: small named records that the queue reads, decides on and writes, part of the port in store.ts. A store
 * compares and replaces their texts and does not interpret them.
 *
 * Each kind has one place. A `schedule` lies with the tasks of its type, so that a tick and its task are one atomic
 * step; the others lie together. Readers are only read by their ids.
 */
export type DocumentKind = 'schedule' | 'key' | 'secret' | 'reader'

export interface Document {
  id: string
  text: string
  /** The last task that `submitWith` accepted for it. */
  lastTask: LastTask | null
}

export interface LastTask {
  at: number
  /** Null: no longer known. */
  taskId: string | null
}

/** The present text of a document, that no document exists, or that one does. */
export type DocumentCondition = { text: string } | 'absent' | 'present'

export interface DocumentChange {
  kind: DocumentKind
  id: string
  /** Of a schedule: the type of its tasks. */
  type?: string
  /** Default: none. */
  if?: DocumentCondition
  /** The new text; null removes the document; if omitted, only the condition is checked. */
  to?: string | null
  /** With a new text, the time at which `sweep` passes the document to the handler of `onDue`; default null: never. */
  dueAt?: number | null
  /** Replaces that of the document; if omitted, that is kept. */
  lastTask?: LastTask
}

export interface DocumentQuery {
  kind: DocumentKind
  /** Default: all documents of the kind. */
  ids?: readonly string[]
}

/** One step: all changes, or none if one of their conditions does not hold; then the reads. */
export interface DocumentsStep {
  /** At most `DOCUMENT_LIMITS.changesMax`, all in one place: schedules of one type, or documents of other kinds. */
  changes?: readonly DocumentChange[]
  read?: readonly DocumentQuery[]
  /** If false, a power loss may undo the changes; default true. */
  durable?: boolean
}

export interface DocumentsAnswer {
  isChanged: boolean
  /** By query, the documents that exist, in the order of their ids. */
  documents: readonly Document[][]
}

export const DOCUMENT_LIMITS = { changesMax: 1_000 } as const

/**
 * A task and the change of a schedule's document that belong together: `stale` if the condition of the change does not
 * hold, `open` if the last task of the document has not ended although it must have; then nothing was changed.
 */
export interface Accompanied {
  spec: TaskSpec
  /** Its `lastTask` becomes the accepted task. */
  change: DocumentChange & { type: string; if: { text: string }; to: string }
  /** The time that is stored with the task as the document's last one. */
  at: number
  /** The last task of the document must have ended. */
  afterLast: boolean
  /** As in `DocumentsStep`. */
  durable?: boolean
}

export type AccompaniedAnswer = 'accepted' | 'stale' | 'open'

/** Acts on documents that are due, at most `max` times; `now` is the time of the sweep. */
export type DueHandler = (
  due: readonly Pick<Document, 'id' | 'text'>[],
  now: number,
  max: number,
) => Promise<{ changed: number; more: boolean; nextAt: number | null }>
