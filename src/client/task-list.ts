import { patternOf } from '../task/error-pattern.ts'
import type { Status } from '../task/status.ts'
import type { TaskJson } from '../task/task-json.ts'
import { type TaskView, viewOfJson } from '../task/task-view.ts'
import { call, type Server } from './call.ts'

/** Tasks to list, cancel or retry; all fields must match. */
export interface TaskFilter {
  status?: Status
  type?: string
  group?: string
  batch?: string
  tag?: { key: string; value: string }
  /** Only tasks that were accepted at this time or later. */
  createdAfter?: Date
  /** Only tasks that were accepted before this time. */
  createdBefore?: Date
  /** A part of the error that the task shows, 1–200 characters; A to Z are equal to a to z. */
  error?: string
  /** An error: only tasks whose error has the same first line, apart from numbers and ids. */
  errorLike?: string
}

export interface ListOptions extends TaskFilter {
  /** Tasks of one call, 1–1,000; default 100. */
  pageSize?: number
  /** Cursor of an earlier page, to continue behind it. */
  cursor?: string
  signal?: AbortSignal
}

export interface TaskPage<T = TaskView> {
  tasks: T[]
  /** Continues behind this page; null at the end. */
  nextCursor: string | null
}

const PAGE_SIZE = 100

/**
 * Tasks that match a filter, newest first; pending tasks in the order of their starts. Pages are read when they are
 * needed:
 *
 *     for await (const task of client.list({ status: 'failed' })) console.log(task.id, task.error)
 */
export class TaskList<T = TaskView> implements AsyncIterable<T> {
  readonly #server: Server
  readonly #options: ListOptions

  constructor(server: Server, options: ListOptions) {
    this.#server = server
    this.#options = options
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    for await (const { tasks } of this.pages()) yield* tasks
  }

  /** The same, page by page. */
  async *pages(): AsyncGenerator<TaskPage<T>, void, undefined> {
    const { pageSize = PAGE_SIZE, cursor, signal, ...filter } = this.#options
    const query = new URLSearchParams({ ...filterOf(filter), limit: String(pageSize) })
    for (let next: string | null = cursor ?? ''; next !== null; ) {
      if (next !== '') query.set('cursor', next)
      const path = `/tasks?${query}`
      const answer: { tasks: TaskJson[]; next_cursor: string | null } = await call(
        ...([this.#server, 'GET', path, undefined, signal ? { signal } : {}] as const),
      )
      next = answer.next_cursor
      yield { tasks: answer.tasks.map(viewOfJson) as T[], nextCursor: next }
    }
  }
}

/** The fields of a filter as the API names them. */
export function filterOf({ tag, createdAfter, createdBefore, ...filter }: TaskFilter): Record<string, string> {
  const { status, type, group, batch, error, errorLike } = filter
  const fields = {
    ...{ status, type, group, batch, error },
    tag: tag && `${tag.key.replaceAll(':', '\\:')}:${tag.value}`,
    created_after: createdAfter?.toISOString(),
    created_before: createdBefore?.toISOString(),
    error_like: errorLike === undefined ? undefined : patternOf(errorLike),
  }
  return Object.fromEntries(Object.entries(fields).filter((field): field is [string, string] => field[1] !== undefined))
}
