import { Command } from 'commander'
import { version } from '../version.ts'

const EXIT_CODES = `
Exit codes: 0 success, 1 the task or the call failed,
            2 invalid usage or settings, 3 the server is unavailable`

interface Part {
  names: readonly string[]
  load: (program: Command) => Promise<Command[]>
}

const part = (names: string, load: Part['load']): Part => ({ names: names.split(' '), load })

/** The commands by the heading of `--help`. A part is imported only if one of its commands is wanted. */
const GROUPS: readonly [title: string, parts: readonly Part[]][] = [
  [
    'Start:',
    [
      part('init', async () => [(await import('./init.ts')).initCommand()]),
      part('serve worker', async () => (await import('./serve.ts')).serveCommands()),
    ],
  ],
  [
    'Tasks:',
    [
      part('submit', async () => [(await import('./submit.ts')).submitCommand()]),
      part('get explain logs watch list', async () => (await import('./tasks.ts')).taskCommands()),
      part('cancel retry delete', async () => (await import('./change.ts')).changeCommands()),
      part('batch', async () => [(await import('./batch.ts')).batchCommand()]),
    ],
  ],
  [
    'Types, schedules and workers:',
    [
      part('stats types workers', async () => (await import('./system.ts')).systemCommands()),
      part('declare limit pause hold resume', async () => (await import('./types.ts')).typeCommands()),
      part('limits', async () => [(await import('./limits.ts')).limitsCommand()]),
      part('schedule', async () => [(await import('./schedule.ts')).scheduleCommand()]),
    ],
  ],
  [
    'Operation:',
    [
      part('mcp', async () => [(await import('./mcp.ts')).mcpCommand()]),
      part('health', async () => [(await import('./health.ts')).healthCommand()]),
      part('keys', async () => [(await import('./keys.ts')).keysCommand()]),
      part('migrate', async () => [(await import('./migrate.ts')).migrateCommand()]),
      part('doctor', async () => [(await import('./doctor.ts')).doctorCommand()]),
      part('config', async () => [(await import('./config.ts')).configCommand()]),
    ],
  ],
  ['Shell:', [part('completion', async (program) => [(await import('./completion.ts')).completionCommand(program)])]],
]
/** They show or complete the other commands. */
const OF_ALL = ['completion', 'help']
const OF_NONE = ['--version', '-V']

/**
 * The command line. Some commands read defaults from the environment.
 *
 * @param name the command that will run: only its part is loaded, so that it starts fast
 * @throws XQueueError `invalid_config`
 */
export async function programOf(name?: string): Promise<Command> {
  const program = new Command('xqueue')
    .description('XQueue, a distributed task queue: submit, run and watch tasks.')
    .version(version)
    .addHelpText('after', EXIT_CODES)
  const parts = GROUPS.flatMap(([title, all]) => all.map((one) => ({ ...one, title })))
  if (OF_NONE.includes(name ?? '')) return inOwnWords(program, 'xqueue')
  const own = OF_ALL.includes(name ?? '') ? [] : parts.filter(({ names }) => names.includes(name ?? ''))
  const loaded = await Promise.all(
    (own.length > 0 ? own : parts).map(async ({ title, load }) => ({ title, commands: await load(program) })),
  )
  for (const { title, commands } of loaded) {
    program.commandsGroup(title)
    for (const command of commands) program.addCommand(command.helpGroup(title))
  }
  // Belongs to the group of the last commands.
  program.helpCommand('help [command]', 'print the help of a command')
  return inOwnWords(program, 'xqueue')
}

/** The program and the commands in it fail in the same words. */
function inOwnWords<T extends Command>(command: T, path: string): T {
  for (const sub of command.commands) inOwnWords(sub, `${path} ${sub.name()}`)
  return command
    .exitOverride()
    .showHelpAfterError(`(see ${path} --help)`)
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'xqueue: ')) })
}
