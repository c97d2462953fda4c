import type { Json } from './json.ts'
import type { Status, TimeoutReason } from './status.ts'
import type { Progress } from './task.ts'

/** One change of a task, written in the same atomic step as the change itself. */
export interface TaskEvent {
  /** Its position in the engine's outbox, which reading can go on from. What is in it is the engine's own. */
  id: string
  /**
   * `status` when the status changed, `progress` when a running task reported progress, `removed` when retention has
   * removed the task (its last status, and nothing else of it).
   */
  kind: 'status' | 'progress' | 'removed'
  taskId: string
  type: string
  status: Status
  attempts: number
  progress: Progress | null
  result: Json
  error: string | null
  timeoutReason: TimeoutReason | null
  workerId: string | null
  /** Milliseconds since the epoch. */
  at: number
}

/** The form in which an event leaves the process, over Server-Sent Events and MQTT alike. */
export function eventJson(event: TaskEvent) {
  return {
    event_id: event.id,
    task_id: event.taskId,
    type: event.type,
    status: event.status,
    attempts: event.attempts,
    progress: event.progress,
    result: event.result,
    error: event.error,
    timeout_reason: event.timeoutReason,
    worker_id: event.workerId,
    timestamp: new Date(event.at).toISOString(),
  }
}
