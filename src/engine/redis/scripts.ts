import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { luaConstants } from './keys.ts'
import type { RedisPlace } from './place.ts'

/**
 * The atomic steps, each a Lua file that says its arguments, answer and cost. What a step may do without: `no-writes`
 * runs on any node; `allow-oom` runs when Redis has no memory left, because it frees more than it takes. The others
 * are refused then before they change anything.
 */
const FLAGS = {
  submit: '',
  turn: 'allow-oom',
  change: 'allow-oom',
  sweep: 'allow-oom',
  configure: '',
  rates: '',
  look: 'no-writes',
  scan: 'no-writes',
  about: 'no-writes',
  ahead: 'no-writes',
  events: 'allow-oom',
} as const
export type ScriptName = keyof typeof FLAGS

export interface Script {
  name: ScriptName
  text: string
  /** Scripts are addressed by their content: two versions of the program run side by side on one Redis. */
  sha: string
}

export function loadScripts(place: RedisPlace): Record<ScriptName, Script> {
  const read = (file: string) => readFileSync(new URL(`./lua/${file}.lua`, import.meta.url), 'utf8')
  const shared = read('shared')
  const named = (text: string) => nameConstants(text, luaConstants(place))
  const scripts = Object.entries(FLAGS).map(([name, flags]) => {
    const text = named(`#!lua${flags === '' ? '' : ` flags=${flags}`}\n${shared}\n${read(name)}`)
    return [name, { name, text, sha: createHash('sha1').update(text).digest('hex') }]
  })
  return Object.fromEntries(scripts) as Record<ScriptName, Script>
}

/** Puts values where scripts name constants (`KEY.leases`, `WORKERS`): a table of them would be made at each call. */
function nameConstants(text: string, constants: ReadonlyMap<string, string>): string {
  return text.replace(/\b(?:KEY|CHANNEL)\.\w+|\b[A-Z][A-Z_]+\b/g, (name) => constants.get(name) ?? name)
}
