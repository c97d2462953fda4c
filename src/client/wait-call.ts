import { XQueueError } from '../task/errors.ts'
import type { TaskJson } from '../task/task-json.ts'
import { call, type Server } from './call.ts'

/** The server allows 60 s. */
const WAIT_S = 50

/** A task that does not exist has no status. */
export type Line = TaskJson | { id: string; status: null }

/**
 * The task if it ends within one call.
 * @throws XQueueError `not_found`
 */
export async function endedWithin(server: Server, id: string): Promise<TaskJson | null> {
  const lines: Line[] = []
  await waitOnce(server, [id], (line) => lines.push(line))
  const [line = null] = lines
  if (line?.status === null) throw notFound(id)
  return line as TaskJson | null
}

/** One call that waits for tasks, up to 50 s; `line` is called for each that has ended, or that does not exist. */
export async function waitOnce(
  server: Server,
  ids: readonly string[],
  line: (line: Line) => void,
  signal?: AbortSignal,
): Promise<void> {
  // Not again by itself: it would ask for those that have ended too.
  const options = { repeatable: false, line, ...(signal ? { signal } : {}) }
  await call(server, 'POST', '/tasks/wait', { ids, wait: WAIT_S }, options)
}

export function notFound(id: string): XQueueError {
  return new XQueueError('not_found', `task "${id}" not found: it may have been deleted after its retention time`)
}
