import { setTimeout as sleep } from 'node:timers/promises'
import { XQueueError } from '../../../task/errors.ts'

/** The store or Kafka is unavailable, or full: the same call can succeed later. */
const PASSING: readonly string[] = ['engine_unavailable', 'queue_full', 'shutting_down']
/** A failure without a known cause is retried this often with a single item before that item counts as the cause. */
const TRIES_MAX = 5
const PAUSE_MS = 300

export function isPassing(error: unknown): boolean {
  return error instanceof XQueueError && PASSING.includes(error.code)
}

/**
 * Takes items in one call. If the call fails because of some of them, those are refused and the others are taken:
 * either the items that the error names, or else each half is taken separately, down to the single item that fails.
 *
 * @param take takes all or none of the items; a call may be repeated
 * @param refuse receives each item that cannot be taken, and the reason
 * @throws an error that means that nothing can be taken now
 */
export async function takeApart<T>(
  items: readonly T[],
  take: (some: readonly T[]) => Promise<void>,
  refuse: (item: T, error: unknown) => void,
): Promise<void> {
  if (items.length === 0) return
  for (let tries = 1; ; tries++) {
    try {
      return await take(items)
    } catch (error) {
      if (isPassing(error)) throw error
      const named = namedOf(error)
      if (named.size > 0) {
        for (const [index, item] of items.entries()) if (named.has(index)) refuse(item, error)
        const others = items.filter((_, index) => !named.has(index))
        if (others.length < items.length) return takeApart(others, take, refuse)
      }
      if (items.length > 1) {
        const middle = items.length >> 1
        await takeApart(items.slice(0, middle), take, refuse)
        return takeApart(items.slice(middle), take, refuse)
      }
      const isKnown = error instanceof XQueueError && error.code !== 'internal'
      if (isKnown || tries >= TRIES_MAX) return refuse(items[0]!, error)
      await sleep(PAUSE_MS)
    }
  }
}

/** The items of a call that an error names, by their indexes; none if it names none. */
function namedOf(error: unknown): Set<number> {
  const errors = error instanceof XQueueError ? (error.details.errors ?? []) : []
  return new Set(errors.flatMap(({ path }) => /^tasks\[(\d+)\]/.exec(path)?.slice(1).map(Number) ?? []))
}
