import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { block, documentOf } from './markdown.ts'

const MAIN = join(import.meta.dirname, '../../src/cli/main.ts')

/** Every command, by its own help. */
export function commandLine(): string {
  const top = help()
  const parts = commandsIn(top).flatMap((name) => {
    const text = help(name)
    return [`## ${name}`, block(text), ...commandsIn(text).map((sub) => block(help(name, sub)))]
  })
  return documentOf('# Command line', block(top), ...parts)
}

/** Neither a file of settings nor a variable of whoever runs this changes what is the default. */
function help(...words: string[]): string {
  const args = [MAIN, ...words, '--help']
  return execFileSync(process.execPath, args, { encoding: 'utf8', env: {}, cwd: '/' }).trim()
}

function commandsIn(text: string): string[] {
  const listed = text.split('\nCommands:\n')[1] ?? ''
  return [...listed.matchAll(/^ {2}([a-z-]+)/gm)].flatMap(([, name]) => (name === 'help' ? [] : [name!]))
}
