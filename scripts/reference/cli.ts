import type { Command } from 'commander'
import { programOf } from '../../src/cli/program.ts'
import { block, documentOf } from './markdown.ts'

/** All commands, from their help. */
export async function commandLine(): Promise<string> {
  const program = await programOf()
  const parts = program.commands.flatMap((command) => [
    `## ${command.name()}`,
    block(help(command)),
    ...command.commands.map((sub) => block(help(sub))),
  ])
  const intro =
    'This page shows the help of every command. Settings are read from flags, then from `XQUEUE_*` variables, then from\n' +
    '`xqueue.config.ts`, `.js` or `.json`, then defaults apply. `xqueue config` shows each value with its source, and a\n' +
    'misspelled setting stops the start. `REDIS_ADDR`, `KAFKA_BROKERS`, `MQTT_BROKER`, `SERVER_PORT` and `LOG_LEVEL` are\n' +
    'read as well. Several processes can share one database file: `serve --no-worker` and `worker` run the two parts.'
  return documentOf('# Command line', intro, block(help(program)), ...parts)
}

/** As it is printed to a pipe. */
function help(command: Command): string {
  let text = ''
  command.configureOutput({
    writeOut: (part) => (text += part),
    getOutHelpWidth: () => 80,
    getOutHasColors: () => false,
  })
  command.outputHelp()
  return text.trim()
}
