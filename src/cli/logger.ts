import { destination, type Logger, pino } from 'pino'
import { withoutTokens } from '../access/masking.ts'
import type { Config } from '../config/config.ts'

/** On standard error: standard output is for what a command was asked for. */
export async function createLogger({ logLevel: level, logFormat }: Config): Promise<Logger> {
  const forPeople = logFormat === 'pretty' || (logFormat === 'auto' && process.stderr.isTTY)
  // Nothing writes a token by intention; a handler's own line or a library's message may hold one.
  const hooks = { streamWrite: withoutTokens }
  if (!forPeople) return pino({ level, hooks }, destination(2))
  const { default: pretty } = await import('pino-pretty')
  return pino({ level, hooks }, pretty({ destination: 2, ignore: 'pid,hostname' }))
}
