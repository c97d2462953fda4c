#!/usr/bin/env node
import { CommanderError } from 'commander'
import { XQueueError } from '../task/errors.ts'
import { EXIT } from './output.ts'
import { programOf } from './program.ts'

process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(EXIT.ok) // The reader (head, grep -q) has closed the pipe.
  throw error
})

try {
  await programOf().parseAsync()
} catch (error) {
  process.exitCode = exitCodeOf(error)
}

function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage
  if (!(error instanceof XQueueError)) throw error
  process.stderr.write(`xqueue: ${messageOf(error)}\n`)
  for (const { path, message } of error.details.errors ?? []) process.stderr.write(`  ${path}: ${message}\n`)
  if (error.code === 'engine_unavailable') return EXIT.unreachable
  return ['invalid_config', 'invalid_handlers', 'engine_unusable'].includes(error.code) ? EXIT.usage : EXIT.failed
}

/** The server explains a refused key to authors of HTTP clients; here the key has a name. */
function messageOf(error: XQueueError): string {
  if (error.code !== 'unauthorized') return error.message
  const { XQUEUE_KEY, XQUEUE_KEY_FILE } = process.env
  if (!XQUEUE_KEY && !XQUEUE_KEY_FILE) return 'the server needs a key. Set XQUEUE_KEY or XQUEUE_KEY_FILE'
  const name = XQUEUE_KEY ? 'XQUEUE_KEY' : 'XQUEUE_KEY_FILE'
  return `the server does not accept the key in ${name} (${error.message}). Create one with \`xqueue keys create\``
}
