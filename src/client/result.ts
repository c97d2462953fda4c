import { isInstance } from '../task/brand.ts'
import type { FinalStatus } from '../task/status.ts'
import type { TaskJson } from '../task/task-json.ts'
import { type TaskView, viewOfJson } from '../task/task-view.ts'
import { call, type Server } from './call.ts'
import type { Waits } from './waits.ts'

const UNSUCCESSFUL = Symbol.for('xqueue.TaskUnsuccessful')

/** Thrown for a task that ended without success; `task` is the task, `code` how it ended. */
export class TaskUnsuccessful extends Error {
  static override [Symbol.hasInstance](value: unknown): boolean {
    // biome-ignore lint/complexity/noThisInStatic: it may be a subclass that is asked
    return isInstance(value, this, TaskUnsuccessful, UNSUCCESSFUL)
  }

  override name = 'TaskUnsuccessful'
  readonly code: `task_${Exclude<FinalStatus, 'success'>}`
  readonly task: TaskView

  constructor(task: TaskView) {
    super(`task ${task.id} of type ${task.type} ended as ${task.status}${task.error ? `: ${task.error}` : ''}`)
    this.code = `task_${task.status as Exclude<FinalStatus, 'success'>}`
    this.task = task
  }

  get [UNSUCCESSFUL](): true {
    return true
  }
}

export async function readTask(server: Server, id: string): Promise<TaskView> {
  return viewOfJson(await call<TaskJson>(server, 'GET', `/tasks/${encodeURIComponent(id)}`))
}

/**
 * Waits for the end of a task and returns its result.
 * @throws TaskUnsuccessful if it ended without success; the reason of `signal` when it aborts
 */
export async function resultOf(waits: Waits, id: string, signal?: AbortSignal): Promise<unknown> {
  const ended = await waits.end(id, signal)
  if (ended.status !== 'success') throw new TaskUnsuccessful(ended)
  return ended.result
}
