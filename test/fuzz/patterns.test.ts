import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { checkSync } from 'recheck'
import { parseSync } from 'vite'
import { describe, expect, it } from 'vitest'
import { root } from '../fixtures/root.ts'
import { openTestQueue, serveQueue } from '../fixtures/server.ts'

const files = globSync('{src,handlers,dashboard/src}/**/*.{ts,tsx}', { cwd: root })

interface Pattern {
  where: string
  source: string
  flags: string
}

// biome-ignore lint/suspicious/noExplicitAny: any node of a syntax tree
function walk(node: any, visit: (node: any) => void): void {
  if (typeof node !== 'object' || node === null) return
  if (Array.isArray(node)) for (const item of node) walk(item, visit)
  else {
    visit(node)
    for (const value of Object.values(node)) walk(value, visit)
  }
}

/** Every regular expression of a file; where one is composed, a name replaces the composed parts. */
function patternsOf(file: string): Pattern[] {
  const found: Pattern[] = []
  const { program, errors } = parseSync(file, readFileSync(join(root, file), 'utf8'))
  expect(errors).toEqual([])
  walk(program, ({ type, regex, callee, arguments: args }) => {
    if (type === 'Literal' && regex) found.push({ where: file, source: regex.pattern, flags: regex.flags })
    if (type !== 'NewExpression' || callee?.name !== 'RegExp') return
    const [source, flags] = args
    const text =
      source.value ?? source.quasis?.map((part: { value: { cooked: string } }) => part.value.cooked).join('N')
    if (typeof text !== 'string')
      throw new Error(`${file} makes a regular expression of something that is not seen here`)
    // A number in braces is a bound: N replaces it, too.
    found.push({ where: file, source: text.replaceAll('{N,', '{9,'), flags: flags?.value ?? '' })
  })
  return found
}

function vulnerable(patterns: Pattern[]) {
  return patterns.flatMap(({ where, source, flags }) => {
    const found = checkSync(source, flags, { timeout: 20_000 })
    if (found.status === 'safe') return []
    return [
      `${where}: /${source}/${flags} is ${found.status}, ${JSON.stringify('error' in found ? found.error : found.complexity)}`,
    ]
  })
}

describe('regular expressions', () => {
  it('of the program take at most linear time for any input', { timeout: 120_000 }, () => {
    const patterns = files.flatMap(patternsOf)
    expect(patterns.length).toBeGreaterThan(60)
    console.log(`${patterns.length} regular expressions`)
    expect(vulnerable(patterns)).toEqual([])
  })

  it('of the schemas take at most linear time', async () => {
    const server = await serveQueue(await openTestQueue())
    const sources = new Set<string>()
    walk((await server.get('/openapi.json')).body, ({ pattern }) => {
      if (typeof pattern === 'string') sources.add(pattern)
    })
    expect(sources.size).toBeGreaterThan(3)
    expect(vulnerable([...sources].map((source) => ({ where: 'OpenAPI', source, flags: 'u' })))).toEqual([])
  })

  it('are reported if they are not safe', () => {
    expect(vulnerable([{ where: 'here', source: '^(a+)+$', flags: '' }])).toHaveLength(1)
    expect(vulnerable([{ where: 'here', source: '^(\\d+[.,]?)+x$', flags: 'u' }])).toHaveLength(1)
  })
})
