import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseSync } from 'vite'
import { expect, it } from 'vitest'
import { root } from '../fixtures/root.ts'

const text = (file: string) => readFileSync(join(root, file), 'utf8')
const declared = Object.keys(JSON.parse(text('package.json')).dependencies).sort()

it('docs/dependencies.md gives the reason for every dependency, and lists no others', () => {
  const rows = [...text('docs/dependencies.md').matchAll(/^\| `(\S+)` +\| (\S.{10,}?) +\|$/gm)].map(([, name]) => name)
  expect(rows.sort()).toEqual(declared)
})

it('the program imports all of its dependencies, and no other installed package', () => {
  const sources = globSync('{src,handlers}/**/*.ts', { cwd: root }).flatMap((file) => {
    const { staticImports, staticExports, dynamicImports } = parseSync(file, text(file)).module
    const exported = staticExports.flatMap(({ entries }) => entries.map(({ moduleRequest }) => moduleRequest))
    const named = [...staticImports.map(({ moduleRequest }) => moduleRequest), ...exported].map((from) => from?.value)
    const called = dynamicImports.map(({ moduleRequest: { start, end } }) => text(file).slice(start, end))
    return [...named, ...called.map((from) => /^'(.+)'$/.exec(from)?.[1])].filter((from) => typeof from === 'string')
  })
  const packages = sources
    .filter((from) => !from.startsWith('.') && !from.startsWith('node:'))
    .map((from) => from.split('/', from.startsWith('@') ? 2 : 1).join('/'))
  expect([...new Set(packages)].sort()).toEqual(declared)
})
