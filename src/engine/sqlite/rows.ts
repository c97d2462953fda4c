import type { TaskEvent } from '../../task/event.ts'
import type { Json } from '../../task/json.ts'
import type { Status, TimeoutReason } from '../../task/status.ts'
import type { Progress, Task } from '../../task/task.ts'
import type { Row } from './store.ts'

/** A row of `tasks` with its payload, as the task that everyone sees; what is always null may be left out. */
export function taskOf(row: Row): Task {
  return {
    id: row.id as string,
    type: row.type as string,
    payload: JSON.parse(row.payload as string),
    priority: row.priority as number,
    status: row.status === 'delayed' ? 'pending' : (row.status as Status),
    attempts: row.attempts as number,
    deliveries: row.deliveries as number,
    maxRetry: row.max_retry as number,
    queueTimeoutMs: row.queue_timeout_ms as number,
    processTimeoutMs: row.process_timeout_ms as number,
    timeoutReason: (row.timeout_reason ?? null) as TimeoutReason | null,
    createdAt: row.created_at as number,
    runAt: row.run_at as number,
    startedAt: row.started_at as number | null,
    updatedAt: row.updated_at as number,
    completedAt: (row.completed_at ?? null) as number | null,
    workerId: row.worker_id as string | null,
    progress: parse(row.progress) as Progress | null,
    result: parse(row.result),
    error: row.error as string | null,
    tags: (parse(row.tags) ?? {}) as Record<string, string>,
    idempotencyKey: row.idempotency_key as string | null,
  }
}

/** What of an event is not the same for its whole transaction; `progress` and `result` are JSON already. */
export interface EventFields {
  kind?: TaskEvent['kind']
  taskId: string
  type: string
  status: Status
  attempts: number
  progress?: string | null
  result?: string | null
  error?: string | null
  timeoutReason?: TimeoutReason | null
  workerId?: string | null
}

/** An event as it stands in the outbox: an array, written by hand because it is on the path of every change. */
export function eventBody(event: EventFields): string {
  const { kind = 'status', error, timeoutReason, workerId } = event
  const head = `["${kind}","${event.taskId}","${event.type}","${event.status}",${event.attempts}`
  const values = `${event.progress ?? 'null'},${event.result ?? 'null'},${error ? JSON.stringify(error) : 'null'}`
  const worker = workerId ? JSON.stringify(workerId) : 'null'
  return `${head},${values},${timeoutReason ? `"${timeoutReason}"` : 'null'},${worker}]`
}

/** The events of one outbox row. */
export function eventsOf(row: Row): TaskEvent[] {
  const first = (row.last as number) - (row.count as number) + 1
  const bodies = JSON.parse(row.body as string) as Json[][]
  return bodies.map(
    ([kind, taskId, type, status, attempts, progress, result, error, timeoutReason, workerId], index) =>
      ({
        id: first + index,
        kind,
        taskId,
        type,
        status,
        attempts,
        progress,
        result,
        error,
        timeoutReason,
        workerId,
        at: row.at,
      }) as TaskEvent,
  )
}

function parse(text: string | number | null | undefined): Json {
  return text === null || text === undefined ? null : JSON.parse(text as string)
}
