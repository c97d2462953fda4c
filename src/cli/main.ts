#!/usr/bin/env node
import { Command, CommanderError } from 'commander'
import { XQueueError } from '../task/errors.ts'
import { version } from '../version.ts'
import { batchCommand } from './batch.ts'
import { benchCommand } from './bench.ts'
import { changeCommands } from './change.ts'
import { completionCommand } from './completion.ts'
import { configCommand } from './config.ts'
import { doctorCommand } from './doctor.ts'
import { healthCommand } from './health.ts'
import { initCommand } from './init.ts'
import { keysCommand } from './keys.ts'
import { migrateCommand } from './migrate.ts'
import { EXIT } from './output.ts'
import { scheduleCommand } from './schedule.ts'
import { serveCommands } from './serve.ts'
import { submitCommand } from './submit.ts'
import { systemCommands } from './system.ts'
import { taskCommands } from './tasks.ts'
import { typeCommands } from './types.ts'

process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(EXIT.ok) // The reader (head, grep -q) has closed the pipe.
  throw error
})

const program = new Command('xqueue')
  .description('XQueue, a distributed task queue: submit, run and watch tasks.')
  .version(version)
  .showHelpAfterError('(see --help)')
  .exitOverride()
  .addHelpText(
    'after',
    '\nExit codes: 0 success, 1 the task or the call failed, 2 invalid usage or settings, 3 the server is unavailable',
  )
try {
  addCommands()
  await program.parseAsync()
} catch (error) {
  process.exitCode = exitCodeOf(error)
}

/** Some commands read defaults from the environment; errors there are reported like any other invalid setting. */
function addCommands(): void {
  for (const command of [
    initCommand(),
    ...serveCommands(),
    submitCommand(),
    ...taskCommands(),
    ...changeCommands(),
    batchCommand(),
    ...typeCommands(),
    scheduleCommand(),
    ...systemCommands(),
    migrateCommand(),
    keysCommand(),
    healthCommand(),
    doctorCommand(),
    configCommand(),
    benchCommand(),
    completionCommand(program),
  ]) {
    program.addCommand(command.exitOverride())
  }
}

function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage
  if (!(error instanceof XQueueError)) throw error
  process.stderr.write(`xqueue: ${error.message}\n`)
  for (const { path, message } of error.details.errors ?? []) process.stderr.write(`  ${path}: ${message}\n`)
  if (error.code === 'engine_unavailable') return EXIT.unreachable
  return ['invalid_config', 'invalid_handlers', 'engine_unusable'].includes(error.code) ? EXIT.usage : EXIT.failed
}
