import type { Queue } from '../queue/queue.ts'
import { XQueueError } from '../task/errors.ts'

/**
 * The part of the queue that a worker uses: the queue itself, or a server over HTTP (`remote/remote-source.ts`).
 * `key` is that of the server.
 */
export interface TaskSource extends Pick<Queue, 'url' | 'turnsAtOnce' | 'turn' | 'predecessor' | 'declareHandlers'> {
  readonly key?: string | null
}

/** Codes of a source that is unavailable for now: it accepts the same outcomes later. */
const PASSING: readonly unknown[] = ['engine_unavailable', 'engine_unusable', 'shutting_down', 'too_many_calls']

export function isPassing(error: unknown): boolean {
  return error instanceof XQueueError && PASSING.includes(error.code)
}
