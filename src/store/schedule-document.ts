import type { Schedule } from '../task/schedule.ts'
import type { Document, DocumentChange } from './documents.ts'

/**
 * A schedule as a document. Its text leaves out the last task, which the store writes together with the task itself;
 * a run outside the schedule changes only that, so it never makes a tick stale.
 */
export function scheduleOf({ text, lastTask }: Document): Schedule {
  return { ...JSON.parse(text), lastAt: lastTask?.at ?? null, lastTaskId: lastTask?.taskId ?? null }
}

export function scheduleText({ lastAt: _, lastTaskId: __, ...schedule }: Schedule): string {
  return JSON.stringify(schedule)
}

/** @param before the text that the document must have; null: there must be none */
export function scheduleChange(schedule: Schedule, before: string | null): DocumentChange {
  const { id, task, nextAt, lastAt, lastTaskId } = schedule
  return {
    kind: 'schedule',
    id,
    type: task.type,
    if: before === null ? 'absent' : { text: before },
    to: scheduleText(schedule),
    dueAt: nextAt,
    ...(before === null && lastAt !== null && { lastTask: { at: lastAt, taskId: lastTaskId } }),
  }
}
