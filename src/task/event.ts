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

/**
 * The form in which an event leaves the process, over Server-Sent Events and MQTT alike: JSON, put together by hand
 * because each change of each task comes through here. Id, type and status hold nothing that JSON would escape. An `id`
 * of '' is told as null.
 */
export function eventJson(event: TaskEvent): string {
  const { id, taskId, type, status, attempts, progress, result, error, timeoutReason, workerId, at } = event
  const head = `{"event_id":${id === '' ? 'null' : `"${id}"`},"task_id":"${taskId}","type":"${type}"`
  const state = `"status":"${status}","attempts":${attempts},"progress":${json(progress)},"result":${json(result)}`
  const reason = timeoutReason === null ? 'null' : `"${timeoutReason}"`
  const end = `"worker_id":${json(workerId)},"timestamp":"${timestamp(at)}"}`
  return `${head},${state},"error":${json(error)},"timeout_reason":${reason},${end}`
}

function json(value: Json): string {
  return value === null ? 'null' : JSON.stringify(value)
}

/** Events of one step have one time: the last one written is kept. */
let written = { at: 0, text: new Date(0).toISOString() }

function timestamp(at: number): string {
  if (written.at !== at) written = { at, text: new Date(at).toISOString() }
  return written.text
}
