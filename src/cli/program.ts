import { Command } from 'commander'
import { version } from '../version.ts'
import { batchCommand } from './batch.ts'
import { changeCommands } from './change.ts'
import { completionCommand } from './completion.ts'
import { configCommand } from './config.ts'
import { doctorCommand } from './doctor.ts'
import { healthCommand } from './health.ts'
import { initCommand } from './init.ts'
import { keysCommand } from './keys.ts'
import { limitsCommand } from './limits.ts'
import { migrateCommand } from './migrate.ts'
import { scheduleCommand } from './schedule.ts'
import { serveCommands } from './serve.ts'
import { submitCommand } from './submit.ts'
import { systemCommands } from './system.ts'
import { taskCommands } from './tasks.ts'
import { typeCommands } from './types.ts'

const EXIT_CODES = `
Exit codes: 0 success, 1 the task or the call failed, 2 invalid usage or settings, 3 the server is unavailable`

/**
 * The command line. Some commands read defaults from the environment.
 * @throws XQueueError `invalid_config`
 */
export function programOf(): Command {
  const program = new Command('xqueue')
    .description('XQueue, a distributed task queue: submit, run and watch tasks.')
    .version(version)
    .showHelpAfterError('(see --help)')
    .exitOverride()
    .addHelpText('after', EXIT_CODES)
  const groups: [title: string, commands: Command[]][] = [
    ['Start:', [initCommand(), ...serveCommands()]],
    ['Tasks:', [submitCommand(), ...taskCommands(), ...changeCommands(), batchCommand()]],
    ['Types, schedules and workers:', [...systemCommands(), ...typeCommands(), limitsCommand(), scheduleCommand()]],
    ['Operation:', [healthCommand(), keysCommand(), migrateCommand(), doctorCommand(), configCommand()]],
    ['Shell:', [completionCommand(program)]],
  ]
  for (const [title, commands] of groups) {
    program.commandsGroup(title)
    for (const command of commands) program.addCommand(command.exitOverride().helpGroup(title))
  }
  // Belongs to the group of the last commands.
  program.helpCommand('help [command]', 'print the help of a command')
  return program
}
