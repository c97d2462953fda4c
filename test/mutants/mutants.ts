import { globSync, readFileSync } from 'node:fs'
import { extname, join } from 'node:path'
import { mutantsOfTokens } from './tokens.ts'
import { mutantsOfTypeScript } from './typescript.ts'

/** One small change of a source text, made by a standard operator. */
export interface Mutant {
  file: string
  /** The function or statement that it is in. */
  within: string
  line: number
  operator: string
  start: number
  end: number
  to: string
}

export interface Change extends Omit<Mutant, 'file' | 'line'> {}

/** The parts in which a fault costs users most; the adapters to the outside have tests of other kinds. */
const SOURCES = [
  'src/{task,queue,tenants,worker,remote,client,access,server}/**/*.ts',
  'src/store/*.ts',
  'src/store/{sqlite,redis,kafka}/**/*.{ts,lua,sql}',
]
/** Old schemas are compared as a whole, by the tests of upgrades. */
const LEFT_OUT = /\/schema\//

/** All mutants of a tree, or of the files whose path begins with `under`. */
export function mutantsOf(tree: string, under: string): Mutant[] {
  const files = globSync(SOURCES, { cwd: tree }).filter((file) => file.startsWith(under) && !LEFT_OUT.test(file))
  return files.sort().flatMap((file) => {
    const text = readFileSync(join(tree, file), 'utf8')
    const language = extname(file).slice(1) as 'ts' | 'lua' | 'sql'
    const changes = language === 'ts' ? mutantsOfTypeScript(text) : mutantsOfTokens(text, language)
    return changes.map((change) => ({ file, line: text.slice(0, change.start).split('\n').length, ...change }))
  })
}

export function mutated(text: string, { start, end, to }: Mutant): string {
  return text.slice(0, start) + to + text.slice(end)
}

/** A mutant as text: its place, and the line before and after. */
export function shown(mutant: Mutant, text: string): string {
  const from = text.lastIndexOf('\n', mutant.start - 1) + 1
  const until = text.indexOf('\n', mutant.end)
  const after = text.slice(from, mutant.start) + mutant.to + text.slice(mutant.end, until)
  const place = `${mutant.file}:${mutant.line} ${mutant.within}, ${mutant.operator}`
  return `${place}\n  - ${text.slice(from, until).trim()}\n  + ${after.trim()}`
}
