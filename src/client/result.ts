import { isInstance } from '../task/brand.ts'
import { type FinalStatus, isFinal, type Status } from '../task/status.ts'
import type { TaskJson } from '../task/task-json.ts'
import { type TaskView, viewOfJson } from '../task/task-view.ts'
import { call, type Server } from './call.ts'
import { changesJson, endedBy, type TaskChangeJson } from './event-stream.ts'
import { isAway, isGone, isRefusedForNow, pauseAsTold } from './patience.ts'

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
  return viewOfJson(await readJson(server, id))
}

function readJson(server: Server, id: string): Promise<TaskJson> {
  return call(server, 'GET', `/tasks/${encodeURIComponent(id)}`)
}

/**
 * Waits for the end of a task and returns its result. Of a task that its type does not keep, the event of its end says
 * it, if the task had not ended before the wait.
 * @throws TaskUnsuccessful if it ended without success; the reason of `signal` when it aborts
 */
export async function resultOf(server: Server, id: string, signal?: AbortSignal): Promise<unknown> {
  const ended = await endOf(server, id, signal)
  if (ended.status !== 'success') throw new TaskUnsuccessful(ended)
  return ended.result
}

async function endOf(server: Server, id: string, signal: AbortSignal | undefined): Promise<TaskView> {
  let seen: TaskJson | null = null
  let change: TaskChangeJson | null = null
  for (;;) {
    try {
      const task = await readJson(server, id)
      if (isFinal(task.status as Status)) return viewOfJson(task)
      seen = task
      change = await untilEnd(server, id, signal)
    } catch (error) {
      if (seen && isGone(error)) return viewOfJson(endedBy(seen, change))
      // A server that was there once will be there again.
      if (!(isRefusedForNow(error) || (seen && isAway(error)))) throw error
      // Without an event stream, it looks from time to time.
      await pauseAsTold(error, signal)
    }
    signal?.throwIfAborted()
  }
}

/** Follows a task until its end, or until it is to be read again: null. */
async function untilEnd(server: Server, id: string, signal: AbortSignal | undefined): Promise<TaskChangeJson | null> {
  const leave = new AbortController()
  try {
    const stop = AbortSignal.any(signal ? [signal, leave.signal] : [leave.signal])
    // Read again when the stream is open, so that no end is missed in between.
    const opened = () => {
      readJson(server, id).then(
        ({ status }) => isFinal(status as Status) && leave.abort(),
        // After another error the stream will open again.
        (error) => (isRefusedForNow(error) || isGone(error)) && leave.abort(),
      )
    }
    for await (const change of changesJson(server, { taskId: id }, stop, opened)) {
      if (isFinal(change.status)) return change
    }
    return null
  } finally {
    leave.abort()
  }
}
