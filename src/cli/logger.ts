import { destination, type Logger, pino } from 'pino'
import pretty from 'pino-pretty'
import type { Config } from '../config/config.ts'

/** On standard error: standard output is for what a command was asked for. */
export function createLogger({ logLevel: level, logFormat }: Config): Logger {
  const forPeople = logFormat === 'pretty' || (logFormat === 'auto' && process.stderr.isTTY)
  return pino({ level }, forPeople ? pretty({ destination: 2, ignore: 'pid,hostname' }) : destination(2))
}
