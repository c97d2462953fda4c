import type { Queue, TypeHistory } from '../queue/queue.ts'
import type { Ring } from '../store/history.ts'
import { allowsType, type Bounds } from '../task/bounds.ts'
import { XQueueError } from '../task/errors.ts'

/**
 * The history of one of a tenant's types.
 * @throws XQueueError `forbidden` for the figures of all types, or of a type that other tenants use as well
 */
export async function historyWithin(
  queue: Queue,
  bounds: Bounds,
  ring: Ring,
  type: string | null,
): Promise<TypeHistory> {
  if (bounds.groups) {
    const why = 'a key with groups cannot see the history of a type, because other tenants use it as well'
    throw new XQueueError('forbidden', `${why}: use a key without groups`)
  }
  if (type === null || !allowsType(bounds, type)) {
    throw new XQueueError('forbidden', 'a key with bounds can see the history of its types only: name one with `type`')
  }
  return queue.history(ring, type)
}
