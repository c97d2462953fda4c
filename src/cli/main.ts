#!/usr/bin/env node
import { type Command, CommanderError } from 'commander'
import { XQueueError } from '../task/errors.ts'
import { errorText } from './error-text.ts'
import { EXIT } from './output.ts'
import { programOf } from './program.ts'

process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(EXIT.ok) // The reader (head, grep -q) has closed the pipe.
  throw error
})

let running: Command | undefined
try {
  const program = await programOf(process.argv[2])
  program.hook('preAction', (_, command) => {
    running = command
  })
  await program.parseAsync()
} catch (error) {
  process.exitCode = exitCodeOf(error)
}

function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage
  if (!(error instanceof XQueueError)) throw error
  process.stderr.write(`xqueue: ${errorText(error, running)}\n`)
  if (error.code === 'engine_unavailable') return EXIT.unreachable
  return ['invalid_config', 'invalid_handlers', 'engine_unusable'].includes(error.code) ? EXIT.usage : EXIT.failed
}
