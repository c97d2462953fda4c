import { openStore } from '../store/open.ts'
import { createQueue } from './create-queue.ts'
import { readNamed } from './event-reader.ts'
import type { Queue, QueueOptions } from './queue.ts'

/**
 * Opens the queue on the store that a URL names, as described at `openStore`.
 *
 * @throws XQueueError `engine_unusable` when the URL names no store, or the store is locked, read-only, corrupt or made
 *   by a newer version.
 */
export async function openQueue(url: string, options: Partial<QueueOptions> = {}): Promise<Queue> {
  return createQueue(await openStore(url, options, readNamed))
}
