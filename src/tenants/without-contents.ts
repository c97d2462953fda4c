import type { Queue } from '../queue/queue.ts'
import { redacted } from '../queue/redacted-queue.ts'
import { hideContents } from '../task/contents.ts'

/** The queue without payloads, results and errors in tasks, events and schedules. They are not read either. */
export function withoutContents(queue: Queue): Queue {
  const shown = redacted(queue, hideContents)
  return {
    ...shown,
    get: (ids) => shown.get(ids, { bare: true }),
    list: (query) => shown.list({ ...query, bare: true }),
  }
}
