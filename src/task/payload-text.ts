import type { Json } from './json.ts'
import type { Task } from './task.ts'

/** Writing a shorter payload again costs no more than keeping its text. */
const CHARS_MIN = 1_024

const texts = new WeakMap<Task, { payload: Json; text: string }>()

/** Keeps the JSON that a long payload was read from, for `payloadTextOf`. A copy of the task does not have it. */
export function keepPayloadText(task: Task, text: string): void {
  if (text.length >= CHARS_MIN) texts.set(task, { payload: task.payload, text })
}

/** The JSON of a task's payload; null if it was not kept, or the task has another payload now. */
export function payloadTextOf(task: Task): string | null {
  const kept = texts.get(task)
  return kept !== undefined && kept.payload === task.payload ? kept.text : null
}
