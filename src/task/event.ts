import type { Json } from './json.ts'
import type { Status, TimeoutReason } from './status.ts'
import type { Progress } from './task.ts'

/** One change of a task, written in the same atomic step as the change itself. */
export interface TaskEvent {
  /** Its position in the engine's outbox, which reading can go on from. What is in it is the engine's own. */
  id: string
  /** `status` when the status changed, `progress` when a running task reported progress. */
  kind: 'status' | 'progress'
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
