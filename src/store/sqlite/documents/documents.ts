import type { XQueueError } from '../../../task/errors.ts'
import { isFinal, type Status } from '../../../task/status.ts'
import type { TaskSpec } from '../../../task/task.ts'
import type {
  Accompanied,
  AccompaniedAnswer,
  Document,
  DocumentChange,
  DocumentKind,
  DocumentQuery,
  DocumentsStep,
  DueHandler,
} from '../../documents.ts'
import type { Swept } from '../../store.ts'
import type { Database, Row } from '../database/database.ts'
import type { Tx } from '../database/writer.ts'
import type { Submitter } from '../submit/submitter.ts'
import type { Registry } from '../types/types.ts'

/** The documents of a file. */
export class Documents {
  readonly #database: Database
  readonly #registry: Registry
  readonly #submitter: Submitter
  onDue: DueHandler | undefined

  constructor(database: Database, registry: Registry, submitter: Submitter) {
    this.#database = database
    this.#registry = registry
    this.#submitter = submitter
  }

  read(queries: readonly DocumentQuery[] = []): Document[][] {
    return queries.map(({ kind, ids }) => {
      const rows = ids ? ids.map((id) => this.#get(kind, id)) : this.#database.all('documentsOf', kind)
      return rows.filter((row) => row !== undefined).map(documentOf)
    })
  }

  /** Inside a transaction. */
  step({ changes = [], read }: DocumentsStep) {
    const isChanged = changes.every((change) => this.#holds(change))
    if (isChanged) for (const change of changes) this.#apply(change)
    return { isChanged, documents: this.read(read) }
  }

  submitWith(tx: Tx, { spec, change, at, afterLast }: Accompanied): AccompaniedAnswer {
    if (!this.#holds(change)) return 'stale'
    if (afterLast && this.#isOpen(this.#get(change.kind, change.id)!.last_task_id as string | null)) return 'open'
    this.#registry.insert(spec.type)
    const taskId = this.#accept(tx, spec)
    this.#apply({ ...change, lastTask: { at, taskId } })
    return 'accepted'
  }

  /** Passes the documents that are due to their handler; returns what that and the sweep have done. */
  async handleDue(swept: Swept, now: number, max: number): Promise<Swept> {
    const rows = this.onDue ? this.#database.all('dueDocuments', now, max) : []
    if (rows.length === 0) return swept
    const due = rows.map(({ id, text }) => ({ id: id as string, text: text as string }))
    const handled = await this.onDue!(due, now, max)
    const times = [swept.nextAt, handled.nextAt].filter((time) => time !== null)
    return {
      changed: swept.changed + handled.changed,
      more: swept.more || handled.more,
      nextAt: times.length === 0 ? null : Math.min(...times),
    }
  }

  /** The time at which the next document becomes due, of those that are not due yet. */
  nextDueAt(now: number): number | null {
    return this.#database.get('nextDocumentDue', now)!.at as number | null
  }

  #get(kind: DocumentKind, id: string): Row | undefined {
    return this.#database.get('document', kind, id)
  }

  #holds({ kind, id, if: condition }: DocumentChange): boolean {
    if (condition === undefined) return true
    const text = this.#get(kind, id)?.text
    if (condition === 'absent') return text === undefined
    return condition === 'present' ? text !== undefined : text === condition.text
  }

  #apply({ kind, id, type, to, dueAt = null, lastTask }: DocumentChange): void {
    if (to === null) this.#database.run('dropDocument', kind, id)
    else if (to !== undefined) this.#database.run('putDocument', kind, id, type ?? null, to, dueAt)
    if (lastTask) this.#database.run('noteLastTask', kind, id, lastTask.at, lastTask.taskId)
  }

  #isOpen(taskId: string | null): boolean {
    const status = taskId === null ? undefined : this.#database.get('taskStatus', taskId)?.status
    return status !== undefined && !isFinal(status as Status)
  }

  /** Returns its id, or the id of the task that another client has submitted under its key. */
  #accept(tx: Tx, spec: TaskSpec): string {
    try {
      return this.#submitter.accept(tx, [spec])[0]!.task.id
    } catch (error) {
      const { code, details } = error as XQueueError
      if (code === 'idempotency_conflict' && details.task_id) return details.task_id
      throw error
    }
  }
}

function documentOf({ id, text, last_at, last_task_id }: Row): Document {
  const lastTask = last_at === null ? null : { at: last_at as number, taskId: last_task_id as string | null }
  return { id: id as string, text: text as string, lastTask }
}
