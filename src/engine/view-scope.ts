import type { TaskEvent } from '../task/event.ts'
import type { ScheduledTask } from '../task/schedule.ts'
import type { Task } from '../task/task.ts'
import type { Engine, ListQuery } from './engine.ts'
import { ViewedEngine } from './viewed.ts'

/** An engine whose tasks, events and schedules are shown without payloads, results and errors: states and figures. */
export function withoutContents(engine: Engine): Engine {
  return new WithoutContents(engine, hideContents)
}

/** A number is a figure; what else a handler reports of its progress is content. */
export function hideContents<T extends (Task | TaskEvent | ScheduledTask) & { payload?: Task['payload'] }>(
  shown: T,
): T {
  const hidden: T = { ...shown }
  const fields = hidden as Partial<Task>
  if ('payload' in fields) fields.payload = null
  if ('result' in fields) fields.result = null
  if ('error' in fields) fields.error = null
  if (typeof fields.progress === 'object') fields.progress = null
  return hidden
}

class WithoutContents extends ViewedEngine {
  /** What is not shown is not read either. */
  override get(ids: readonly string[]) {
    return super.get(ids, { bare: true })
  }

  override list(query: ListQuery) {
    return super.list({ ...query, bare: true })
  }
}
