import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { block, documentOf } from './markdown.ts'

const MAIN = join(import.meta.dirname, '../../src/cli/main.ts')

/** All commands, from their help. */
export function commandLine(): string {
  const top = help()
  const parts = commandsIn(top).flatMap((name) => {
    const text = help(name)
    return [`## ${name}`, block(text), ...commandsIn(text).map((sub) => block(help(name, sub)))]
  })
  const intro =
    'This page shows the help of every command. Settings are read from flags, then from `XQUEUE_*` variables, then from\n' +
    '`xqueue.config.ts`, `.js` or `.json`, then defaults apply. `xqueue config` shows each value with its source, and a\n' +
    'misspelled setting stops the start. `REDIS_ADDR`, `KAFKA_BROKERS`, `MQTT_BROKER`, `SERVER_PORT` and `LOG_LEVEL` are\n' +
    'read as well. Several processes can share one database file: `serve --no-worker` and `worker` run the two parts.'
  return documentOf('# Command line', intro, block(top), ...parts)
}

/** Runs without configuration file and environment, so that the defaults are shown. */
function help(...words: string[]): string {
  const args = [MAIN, ...words, '--help']
  return execFileSync(process.execPath, args, { encoding: 'utf8', env: {}, cwd: '/' }).trim()
}

function commandsIn(text: string): string[] {
  const listed = text.split('\nCommands:\n')[1] ?? ''
  return [...listed.matchAll(/^ {2}([a-z-]+)/gm)].flatMap(([, name]) => (name === 'help' ? [] : [name!]))
}
