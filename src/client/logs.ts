import type { Json } from '../task/json.ts'
import type { LogLevel } from '../task/log-line.ts'
import { answerOf } from './answer.ts'

/** A line that a handler wrote with its log. */
export interface LogLine {
  /** Number of the line in the task, from 1. */
  n: number
  /** The hand-out to a worker, as of the attempt. */
  delivery: number
  /** Number of the attempt. */
  attempt: number
  time: Date
  level: LogLevel
  /** Null for keys that may not see contents. */
  message: string | null
  fields: { [name: string]: Json } | null
}

export interface TaskLog {
  /** Oldest first. */
  lines: LogLine[]
  /** Number of the last line: continue with `after`. */
  last: number
  /** Number of lines that are no longer kept. */
  leftOut: number
  /** The task has ended, and no line follows. */
  done: boolean
}

export function logOf(json: { lines: object[] }): TaskLog {
  const { lines, ...log } = answerOf<TaskLog>(json)
  return { ...log, lines: lines.map((line) => answerOf<LogLine>(line, ['time'])) }
}
