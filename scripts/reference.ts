import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { commandLine } from './reference/cli.ts'
import { http } from './reference/http.ts'
import { mqtt } from './reference/mqtt.ts'

/** `npm run reference`: writes docs/reference/ from what the program says and does itself. */

/** The files by their names under docs/reference/. */
export async function reference(): Promise<Map<string, string>> {
  return new Map([
    ['cli.md', await commandLine()],
    ['http.md', await http()],
    ['mqtt.md', mqtt()],
  ])
}

if (import.meta.main) {
  const folder = join(import.meta.dirname, '../docs/reference')
  for (const [name, text] of await reference()) writeFileSync(join(folder, name), text)
}
