import type { Json } from '../task/json.ts'
import type { Status, TimeoutReason } from '../task/status.ts'
import type { Progress } from '../task/task.ts'
import { MACHINE_TIME, pause } from '../task/time.ts'
import { answerOf } from './answer.ts'
import { addressOf, authorizationOf, refusalOf, type Server } from './call.ts'
import { textsOf } from './transport.ts'

/** A status change or a progress report of a task. */
export interface TaskChange {
  eventId: string
  taskId: string
  type: string
  status: Status
  attempts: number
  progress: Progress | null
  result: Json
  error: string | null
  timeoutReason: TimeoutReason | null
  workerId: string | null
  timestamp: Date
}

/** The same as the server sends it. */
export interface TaskChangeJson {
  event_id: string
  task_id: string
  type: string
  status: Status
  attempts: number
  progress: Progress | null
  result: Json
  error: string | null
  timeout_reason: TimeoutReason | null
  worker_id: string | null
  /** RFC 3339. */
  timestamp: string
}

export interface ChangesQuery {
  taskId?: string
  type?: string
  status?: Status
}

const RECONNECT_MS = 1_000

/** The changes of tasks from now on, see `changesJson`. */
export async function* changes(
  server: Server,
  query: ChangesQuery,
  signal?: AbortSignal,
): AsyncGenerator<TaskChange, void, undefined> {
  for await (const json of changesJson(server, query, signal)) yield answerOf<TaskChange>(json, ['timestamp'])
}

/**
 * The changes of tasks from now on. Reconnects and resumes after a lost connection. Ends when `signal` aborts. `opened`
 * is called when changes can no longer be missed.
 *
 * @throws XQueueError the server's error, or `engine_unavailable` if it cannot be reached at the start
 */
export async function* changesJson(
  server: Server,
  { taskId, type, status }: ChangesQuery,
  signal?: AbortSignal,
  opened?: () => void,
): AsyncGenerator<TaskChangeJson> {
  const filter = { ...(taskId ? { task_id: taskId } : {}), ...(type ? { type } : {}), ...(status ? { status } : {}) }
  const url = addressOf(server, `/events?${new URLSearchParams(filter)}`)
  let last: string | null = null
  while (!signal?.aborted) {
    const leave = new AbortController()
    try {
      const headers: Record<string, string> = {
        ...authorizationOf(server),
        ...(last === null ? {} : { 'Last-Event-ID': last }),
      }
      const signals = AbortSignal.any(signal ? [signal, leave.signal] : [leave.signal])
      const response = await (server.fetch ?? fetch)(url, { headers, signal: signals }).catch((error: Error) => error)
      if (!(response instanceof Error) && response.ok && response.body) {
        last ??= response.headers.get('last-event-id')
        opened?.()
        for await (const { id, data } of records(response.body)) {
          last = id ?? last
          if (data !== null) yield JSON.parse(data)
        }
      } else if (last === null && !signal?.aborted) {
        throw await refusalOf(server, response)
      }
    } catch (error) {
      if (last === null && !signal?.aborted) throw error
    } finally {
      leave.abort() // An open stream would keep the process alive.
    }
    if (!signal?.aborted) await pause(RECONNECT_MS, MACHINE_TIME.after, signal)
  }
}

/** The records of an event stream; `data` is null in records with a position only. */
async function* records(body: ReadableStream<Uint8Array>): AsyncGenerator<{ id: string | null; data: string | null }> {
  let text = ''
  for await (const piece of textsOf(body)) {
    const parts = (text + piece).split('\n\n')
    text = parts.pop() ?? ''
    for (const part of parts) {
      // No regular expression: there, a line also ends at U+2028 and U+2029, which may occur in text of a task.
      const lines = part.split('\n')
      const field = (name: string) => lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2) ?? null
      const isChange = field('event') === 'status' || field('event') === 'progress'
      yield { id: field('id'), data: isChange ? field('data') : null }
    }
  }
}
