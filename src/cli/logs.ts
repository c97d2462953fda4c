import { Command } from 'commander'
import { call, type Server } from '../client/call.ts'
import type { LogLine } from '../task/log-line.ts'
import { type ClientOptions, print, warn, withClientOptions, withExamples } from './output.ts'
import { ID, taskIdOf } from './task-id.ts'
import { dimmed, isTerminal, paint, plain, plainLines } from './terminal.ts'

/** How often --follow asks for new lines; workers send theirs once a second. */
const POLL_MS = 500
/** Lines on the page of a task. */
const LAST_LINES = 20

/** The answer of `GET /tasks/:id/logs`. */
export interface Log {
  lines: LogLine[]
  last: number
  left_out: number
  done: boolean
}

const STYLES = { trace: 'dim', debug: 'dim', info: 'green', warn: 'yellow', error: 'red', fatal: 'red' } as const

type Place = Pick<LogLine, 'attempt' | 'delivery'>

/** logs */
export function logsCommand(): Command {
  const command = withClientOptions(new Command('logs'))
    .description('print the lines that the handler of a task logged')
    .argument('<id>', ID)
    .option('-f, --follow', 'print new lines as they come, until the task has ended')
    .action(async (text: string, options: ClientOptions & { follow?: boolean }) => {
      const id = await taskIdOf(options.server, text)
      let shown = { attempt: 0, delivery: 0 }
      let [isFirst, count] = [true, 0]
      for await (const { lines, left_out } of pages(options.server, id, options.follow ?? false)) {
        if (isFirst && left_out > 0) warn(`${left_out} older lines are no longer kept`)
        isFirst = false
        for (const line of lines) {
          if (!options.json && line.delivery !== shown.delivery) print(dimmed(titleOf(line, shown)))
          shown = line
          count += 1
          print(options.json ? JSON.stringify(line) : lineText(line))
        }
      }
      if (count === 0 && !options.json) print(dimmed('the handler has logged no lines'))
    })
  const id = '01890a5d-ac96-774b-bcce-b302099a8057'
  return withExamples(command, `xqueue logs ${id}`, `xqueue logs ${id} --follow`)
}

/** After a lost worker or an explicit retry, the number of the attempt may be the same again. */
function titleOf({ attempt, delivery }: Place, before: Place): string {
  return `attempt ${attempt}${attempt > before.attempt ? '' : `, delivery ${delivery}`}`
}

/** The last lines for the page of a task, and where the others are. */
export function lastLines({ lines, left_out }: Log, id: string): string {
  const last = lines.slice(-LAST_LINES).map(lineText)
  const others = lines.length - last.length + left_out
  return [...(others > 0 ? [dimmed(`${others} more: xqueue logs ${id}`)] : []), ...last].join('\n')
}

export function readLog(server: Server, id: string, after = 0): Promise<Log> {
  return call(server, 'GET', `/tasks/${encodeURIComponent(id)}/logs?after=${after}`)
}

async function* pages(server: Server, id: string, follows: boolean): AsyncGenerator<Log> {
  for (let after = 0; ; ) {
    const page = await readLog(server, id, after)
    yield page
    after = page.last
    if (page.done || (!follows && page.lines.length === 0)) return
    if (page.lines.length === 0) await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}

/** In a pipe: time, level, message and fields, one line each. */
function lineText({ time, level, message, fields }: LogLine): string {
  const at = isTerminal() ? dimmed(time.slice(11, 23)) : time
  // A stack is easier to read on lines of its own.
  const { err, ...others } = fields ?? {}
  const rest = Object.keys(others).length === 0 ? '' : ` ${dimmed(plain(JSON.stringify(others)))}`
  const text = `${at} ${paint(STYLES[level], level.padEnd(5))} ${plain(message ?? '–')}${rest}`
  if (err === undefined) return text
  const stack = plainLines(typeof err === 'string' ? err : JSON.stringify(err))
  return `${text}\n${stack.replace(/^/gm, '    ')}`
}
