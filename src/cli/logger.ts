import { destination, type Logger, pino } from 'pino'
import { withoutTokens } from '../access/masking.ts'
import type { Config } from '../config/config.ts'

/** On standard error: standard output is for what a command was asked for. */
export async function createLogger({ logLevel: level, logFormat }: Config): Promise<Logger> {
  const forPeople = logFormat === 'pretty' || (logFormat === 'auto' && process.stderr.isTTY)
  // Nothing writes a token by intention; a handler's own line or a library's message may hold one.
  const hooks = { streamWrite: withoutTokens }
  if (!forPeople) return pino({ level, hooks }, writtenPerTurn(2))
  const { default: pretty } = await import('pino-pretty')
  return pino({ level, hooks }, pretty({ destination: 2, ignore: 'pid,hostname' }))
}

/** Above this a turn of the event loop writes more than once. One write takes no more. */
const BUFFERED_BYTES_MAX = 16 * 1024 - 1

/**
 * Writes the lines of one turn of the event loop at once, at its end: a write for each line costs more than the line,
 * and the audit log has one for each change. What a process has logged is written before it exits.
 */
function writtenPerTurn(fd: number) {
  const stream = destination({ dest: fd, sync: true, minLength: BUFFERED_BYTES_MAX })
  let isDue = false
  const flush = () => {
    isDue = false
    stream.flushSync()
  }
  process.on('exit', flush)
  return {
    write(line: string) {
      stream.write(line)
      if (isDue) return
      isDue = true
      setImmediate(flush)
    },
    flushSync: flush,
  }
}
