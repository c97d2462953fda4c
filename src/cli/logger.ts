import { destination, type Logger, pino } from 'pino'
import type { Config } from '../config/config.ts'

/** On standard error: standard output is for what a command was asked for. */
export async function createLogger({ logLevel: level, logFormat }: Config): Promise<Logger> {
  const forPeople = logFormat === 'pretty' || (logFormat === 'auto' && process.stderr.isTTY)
  if (!forPeople) return pino({ level }, destination(2))
  const { default: pretty } = await import('pino-pretty')
  return pino({ level }, pretty({ destination: 2, ignore: 'pid,hostname' }))
}
