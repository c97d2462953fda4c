import type { Queue } from '../queue/queue.ts'

/**
 * The part of the queue that a worker uses: the queue itself, or a server over HTTP (`remote/remote-source.ts`).
 * `key` is that of the server.
 */
export interface TaskSource extends Pick<Queue, 'url' | 'turnsAtOnce' | 'turn' | 'predecessor' | 'declareHandlers'> {
  readonly key?: string | null
}
