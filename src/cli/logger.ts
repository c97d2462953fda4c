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

/** Above this a turn of the event loop writes more than once: readers of pipes take some 16 KiB at once. */
const BUFFERED_CHARS_MAX = 15_000

/**
 * Writes the lines of one turn of the event loop at once, at its end: a write for each line costs more than the line,
 * and the audit log has one for each change. What a process has logged is written before it exits.
 */
function writtenPerTurn(fd: number) {
  // Its flushSync() would also wait for the disk, at each turn.
  const stream = destination({ dest: fd, sync: true })
  let lines = ''
  let isDue = false
  const writeOut = () => {
    const due = lines
    lines = ''
    if (due !== '') stream.write(due)
  }
  const flush = () => {
    isDue = false
    writeOut()
  }
  process.on('exit', flush)
  return {
    write(line: string) {
      lines += line
      if (lines.length > BUFFERED_CHARS_MAX) writeOut()
      if (isDue) return
      isDue = true
      setImmediate(flush)
    },
    flushSync: flush,
  }
}
