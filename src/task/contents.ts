import type { TaskEvent } from './event.ts'
import type { ScheduledTask } from './schedule.ts'
import type { Task } from './task.ts'

/** Numbers are figures; any other progress of a handler is content. */
export function hideContents<T extends (Task | TaskEvent | ScheduledTask) & { payload?: Task['payload'] }>(
  shown: T,
): T {
  const hidden: T = { ...shown }
  const fields = hidden as Partial<Task>
  if ('payload' in fields) fields.payload = null
  if ('result' in fields) fields.result = null
  if ('error' in fields) fields.error = null
  if ('log' in hidden) hidden.log = { message: null, fields: null }
  if (typeof fields.progress === 'object') fields.progress = null
  return hidden
}
