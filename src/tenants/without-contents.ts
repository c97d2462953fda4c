import type { ListQuery, Queue } from '../queue/queue.ts'
import { RedactedQueue } from '../queue/redacted-queue.ts'
import { hideContents } from '../task/contents.ts'

/** An engine that shows tasks, events and schedules without payloads, results and errors. */
export function withoutContents(queue: Queue): Queue {
  return new WithoutContents(queue, hideContents)
}

class WithoutContents extends RedactedQueue {
  /** Hidden contents are not read either. */
  override get(ids: readonly string[]) {
    return super.get(ids, { bare: true })
  }

  override list(query: ListQuery) {
    return super.list({ ...query, bare: true })
  }
}
