import type { Json } from './json.ts'
import { STATUSES, type Status, TIMEOUT_REASONS, type TimeoutReason } from './status.ts'
import type { Progress } from './task.ts'

/** One change of a task, written in the same atomic step as the change itself. */
export interface TaskEvent {
  /** Position in the store's outbox, from which a reader can resume. Its format belongs to the store. */
  id: string
  /**
   * `status` when the status changed, `progress` when a running task reported progress, `removed` when retention or
   * a purge has removed the task (with its last status, and no other data).
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

/** The fields of `eventJson`, in its order; docs/reference/mqtt.md is made of these. */
export const EVENT_FIELDS = [
  {
    name: 'event_id',
    type: 'string, null',
    is: "position in the engine's outbox; null in a current state sent to a new subscriber",
  },
  { name: 'task_id', type: 'string', is: 'id of the task' },
  { name: 'type', type: 'string', is: 'type of the task' },
  { name: 'status', type: oneOf(STATUSES), is: 'current status' },
  { name: 'attempts', type: 'integer', is: 'runs of the handler that ended by themselves or by the time-out' },
  { name: 'progress', type: 'number, object, null', is: 'latest progress: 0–100, or an object' },
  { name: 'result', type: 'any JSON', is: 'return value of the handler; null before' },
  { name: 'error', type: 'string, null', is: 'error of the latest failed attempt; null in a change to `processing`' },
  { name: 'timeout_reason', type: `${oneOf(TIMEOUT_REASONS)} null`, is: 'reason of the status `timeout`' },
  { name: 'worker_id', type: 'string, null', is: 'worker of the current or latest run' },
  { name: 'timestamp', type: 'string', is: 'time of the change: RFC 3339, UTC, with milliseconds' },
] as const

function oneOf(words: readonly string[]): string {
  return words.map((word) => `\`${word}\``).join(' ')
}

/**
 * The wire format of an event, for Server-Sent Events and MQTT: JSON, concatenated by hand because every change of
 * every task is formatted here. Id, type and status contain no characters that JSON escapes. An `id` of '' becomes
 * null.
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

/** Events of one step have the same time, so the last formatted time is cached. */
let written = { at: 0, text: new Date(0).toISOString() }

function timestamp(at: number): string {
  if (written.at !== at) written = { at, text: new Date(at).toISOString() }
  return written.text
}
