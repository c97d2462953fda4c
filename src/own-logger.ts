import type { Logger } from 'pino'
import type { Log } from './worker/handler.ts'

const LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const

/** Uses the log of the program around. One that is not Pino's lacks what XQueue and Fastify need beside `Log`. */
export function ownLogger(log: Log): Logger {
  if (typeof (log as Partial<Logger>).isLevelEnabled === 'function') return log as Logger
  const lines = Object.fromEntries(LEVELS.map((level) => [level, log[level].bind(log)]))
  const rest = { level: 'trace', silent: () => undefined, isLevelEnabled: () => true }
  return { ...lines, ...rest, child: (fields: Record<string, unknown>) => ownLogger(log.child(fields)) } as never
}
