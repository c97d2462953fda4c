import type { Json } from './json.ts'
import type { Task } from './task.ts'

type Field = 'payload' | 'result'

/** Keeping a shorter text would cost more than reading it. */
const CHARS_MIN = 1_024

/** The texts of fields that were not used, by their getters. */
const unread = new WeakMap<() => unknown, string>()

/**
 * Sets a field that is stored as JSON. A long text is read when the field is first used, so one who only passes the
 * task on as JSON (`unreadText`) never reads it. A copy of the task has read it.
 */
export function setStored(task: Task, field: Field, text: string): void {
  if (text.length < CHARS_MIN) {
    task[field] = JSON.parse(text)
    return
  }
  const shared = { enumerable: true, configurable: true }
  const set = (value: Json) => {
    Object.defineProperty(task, field, { ...shared, writable: true, value })
  }
  const get = () => {
    set(JSON.parse(text))
    return task[field]
  }
  unread.set(get, text)
  Object.defineProperty(task, field, { ...shared, get, set })
}

/** The JSON of a field; null if it was used or replaced, or is short. */
export function unreadText(task: Task, field: Field): string | null {
  const { get } = Object.getOwnPropertyDescriptor(task, field)!
  return (get && unread.get(get)) ?? null
}
