import { type Command, Help, type Option } from 'commander'
import type { Server } from '../client/call.ts'
import { readSecret } from '../config/secret-file.ts'
import { XQueueError } from '../task/errors.ts'
import { faultInText } from '../task/json.ts'
import { dimmed } from './terminal.ts'

export const EXIT = { ok: 0, failed: 1, usage: 2, unreachable: 3 } as const

/** The options of every command that calls a server. */
export interface ClientOptions {
  server: Server
  json?: boolean
}

/** Heading of the options that every command has, below its own. */
const GENERAL = 'General options:'

export function withClientOptions(command: Command): Command {
  const key = keyOfEnvironment()
  const server = process.env.XQUEUE_SERVER ?? 'http://127.0.0.1:8080'
  const option = command.createOption(
    '--server <url>',
    'URL of the server (or XQUEUE_SERVER); set its key in XQUEUE_KEY or XQUEUE_KEY_FILE',
  )
  const asServer = option.argParser((url): Server => ({ url, key })).default({ url: server, key }, server)
  return command
    .configureHelp({ groupItems: (...args) => inOrder([], args) })
    .addOption(asServer.helpGroup(GENERAL))
    .addOption(command.createOption('--json', 'print JSON').helpGroup(GENERAL))
}

/** Not a flag: the flags of a process are visible to other users of the machine. */
export function keyOfEnvironment(): string | null {
  const { XQUEUE_KEY, XQUEUE_KEY_FILE } = process.env
  return XQUEUE_KEY || (XQUEUE_KEY_FILE ? readSecret('XQUEUE_KEY_FILE', XQUEUE_KEY_FILE) : null)
}

/** The groups of a help in an order: those of `titles`, then others, then the general options. */
export function inOrder<T extends Command | Option>(
  titles: readonly string[],
  args: [all: T[], visible: T[], groupOf: (item: T) => string],
): Map<string, T[]> {
  const groups = [...Help.prototype.groupItems(...args)]
  const placeOf = (title: string) => (title === GENERAL ? 1_000 : titles.includes(title) ? titles.indexOf(title) : 500)
  return new Map(groups.sort(([a], [b]) => placeOf(a) - placeOf(b)))
}

/** Shown under `--help`. */
export function withExamples(command: Command, ...examples: string[]): Command {
  return command.addHelpText('after', `\nExamples:\n${examples.map((example) => `  ${example}`).join('\n')}`)
}

export function print(text: string): void {
  process.stdout.write(`${text}\n`)
}

/** On standard error, so that the output of a script stays as it is. */
export function warn(text: string): void {
  process.stderr.write(`${dimmed(text)}\n`)
}

/** While a command waits, and the server does not answer. It replaces the line of the progress. */
export function warnAway({ message }: XQueueError): void {
  if (process.stderr.isTTY) process.stderr.write('\r\u001b[K')
  warn(`${message}; waiting for it`)
}

/** Prints JSON for scripts, or else the text of `human`. */
export function show<T>(value: T, options: ClientOptions, human: (value: T) => string): void {
  print(options.json ? JSON.stringify(value) : human(value))
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
