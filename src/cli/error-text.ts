import type { Command } from 'commander'
import type { XQueueError } from '../task/errors.ts'

/** Errors of the server in the words of the command line: they name fields and calls of the HTTP API. */

/** Fields that have another name as an argument or an option. */
const NAMES: Readonly<Record<string, string>> = {
  for: 'the time',
  type: 'the type',
  name: 'the name',
  idempotency_key: '--key',
  max_concurrency: 'the limit',
  group_concurrency: '--group-limit',
  'rate.max': '--rate',
  'rate.per': '--rate',
  per: '--rate',
}

/** Remedies of the API, and the commands that do the same. */
const REMEDIES: readonly [call: RegExp, command: string][] = [
  [/set max or rate with PUT\b( \/api\/v1\/limits\/NAME)?/, 'create it with `xqueue limits set NAME`'],
  [/with PUT \/api\/v1\/limits\/NAME/, 'with `xqueue limits set NAME`'],
  [/set max to null/, 'set `--max none`'],
  [/with POST \/api\/v1\/types\/(\S+)/, 'with `xqueue declare $1`'],
  [/change it with PATCH [^\s,]+/, 'remove it with `xqueue schedule remove`'],
  [/see \/api\/v1\/types/, 'see `xqueue types`'],
  [/see \/api\/v1\/schedules/, 'see `xqueue schedule list`'],
  [/^(body|querystring|params|headers)(: | )/, ''],
]

/** @param command the one that failed: its options have the names of its fields */
export function errorText(error: XQueueError, command?: Command): string {
  if (error.code === 'unauthorized') return keyText(error)
  const message = inOwnWords(error.message)
  const [first, ...others] = error.errors
  if (!first || error.code === 'unknown_type') return message
  const isFirst = message.includes(first.message)
  const head = message.startsWith(first.path) ? named(first.path, message.slice(first.path.length), command) : message
  const lines = (isFirst ? others : error.errors).map((field) => named(field.path, inOwnWords(field.message), command))
  return [head, ...lines].join('\n  ')
}

/** A message after the name of its field, as the command line names it. */
function named(path: string, text: string, command: Command | undefined): string {
  const name = nameOf(path, command)
  const message = text.replace(/^:? /, '')
  if (name === '') return message
  return `${name}${/^(must|is|has|are|cannot|may|names|contains)\b/.test(message) ? '' : ':'} ${message}`
}

function nameOf(path: string, command: Command | undefined): string {
  if (path in NAMES) return NAMES[path]!
  const flag = `--${path.replace(/\..*$/s, '').replaceAll('_', '-')}`
  return command?.options.some(({ long }) => long === flag) ? flag : path
}

function inOwnWords(text: string): string {
  return REMEDIES.reduce((told, [call, command]) => told.replace(call, command), text)
}

/** The server explains a refused key to authors of HTTP clients; here the key has a name. */
function keyText({ message }: XQueueError): string {
  const { XQUEUE_KEY, XQUEUE_KEY_FILE } = process.env
  if (!XQUEUE_KEY && !XQUEUE_KEY_FILE) return 'the server needs a key. Set XQUEUE_KEY or XQUEUE_KEY_FILE'
  const name = XQUEUE_KEY ? 'XQUEUE_KEY' : 'XQUEUE_KEY_FILE'
  return `the server does not accept the key in ${name} (${message}). Create one with \`xqueue keys create\``
}
