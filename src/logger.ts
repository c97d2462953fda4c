import { destination, type Logger, pino } from 'pino'
import type { Config } from './config/config.ts'
import { withoutTokens } from './task/masking.ts'

/** Logs to standard error: standard output is for the output of a command. */
export async function createLogger({ logLevel: level, logFormat }: Config): Promise<Logger> {
  const forPeople = logFormat === 'pretty' || (logFormat === 'auto' && process.stderr.isTTY)
  // XQueue logs no tokens, but a line of a handler or a message of a library may contain one.
  const hooks = { streamWrite: withoutTokens }
  if (!forPeople) return pino({ level, hooks }, writtenPerTurn(2))
  const { default: pretty } = await import('pino-pretty')
  return pino({ level, hooks }, pretty({ destination: 2, ignore: 'pid,hostname' }))
}

/** Bound of one write, because readers of pipes take some 16 KiB at once. An iteration with more text writes again. */
const BUFFERED_CHARS_MAX = 15_000

/**
 * Writes the lines of one iteration of the event loop together, at its end: a write per line costs more than the line,
 * and the audit log has a line for each change. All lines are written before the process exits.
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
    flush(written?: () => void) {
      writeOut()
      written?.()
    },
    flushSync: flush,
  }
}
