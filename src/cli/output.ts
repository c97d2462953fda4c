import type { Command } from 'commander'
import type { Server } from '../client/call.ts'
import { readSecret } from '../config/secret-file.ts'
import { XQueueError } from '../task/errors.ts'
import { faultInText } from '../task/json.ts'

export const EXIT = { ok: 0, failed: 1, usage: 2, unreachable: 3 } as const

/** The options of every command that calls a server. */
export interface ClientOptions {
  server: Server
  json?: boolean
}

export function withClientOptions(command: Command): Command {
  // Not a flag: the flags of a process are visible to other users of the machine.
  const { XQUEUE_KEY, XQUEUE_KEY_FILE } = process.env
  const key = XQUEUE_KEY || (XQUEUE_KEY_FILE ? readSecret('XQUEUE_KEY_FILE', XQUEUE_KEY_FILE) : null)
  const server = process.env.XQUEUE_SERVER ?? 'http://127.0.0.1:8080'
  const option = command.createOption(
    '--server <url>',
    'URL of the server (or XQUEUE_SERVER); set its key in XQUEUE_KEY or XQUEUE_KEY_FILE',
  )
  return command
    .addOption(option.argParser((url): Server => ({ url, key })).default({ url: server, key }, server))
    .option('--json', 'print JSON')
}

/** Shown under `--help`. */
export function withExamples(command: Command, ...examples: string[]): Command {
  return command.addHelpText('after', `\nExamples:\n${examples.map((example) => `  ${example}`).join('\n')}`)
}

export function print(text: string): void {
  process.stdout.write(`${text}\n`)
}

/** Prints JSON for scripts, or else the text of `human`. */
export function show<T>(value: T, options: ClientOptions, human: (value: T) => string): void {
  print(options.json ? JSON.stringify(value) : human(value))
}

/** Columns as wide as their widest cell. Control characters in user data are removed. */
export function table(head: readonly string[], rows: readonly (readonly unknown[])[]): string {
  const lines = [head, ...rows].map((cells) => cells.map((cell) => plain(String(cell ?? '–'))))
  const widths = head.map((_, column) => Math.max(...lines.map((cells) => cells[column]!.length)))
  return lines
    .map((cells) =>
      cells
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

/** One fact per line. */
export function facts(value: Readonly<Record<string, unknown>>): string {
  const rows = Object.entries(value).map(([name, fact]) => [
    name,
    typeof fact === 'object' && fact !== null ? JSON.stringify(fact) : fact,
  ])
  const width = Math.max(...rows.map(([name]) => String(name).length))
  return rows.map(([name, fact]) => `${String(name).padEnd(width)}  ${plain(String(fact ?? '–'))}`).join('\n')
}

function plain(text: string): string {
  return text.replace(/\p{Cc}/gu, (char) => (char === '\n' ? ' ' : '�'))
}

/** @throws XQueueError `invalid_config` with the name of the invalid value */
export function parseJson(text: string, what: string): unknown {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new XQueueError('invalid_config', `${what} is not valid JSON: ${(error as Error).message}`)
  }
  const fault = faultInText(text)
  if (!fault) return value
  throw new XQueueError('invalid_config', `${what}${fault.path && `: ${fault.path}`} ${fault.message}`)
}
