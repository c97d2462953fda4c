import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { root } from '../fixtures/root.ts'

const docs = readFileSync(join(root, 'docs/guarantees.md'), 'utf8')
const named = [...docs.matchAll(/^- `(\S+\.ts)`: (.+)$/gm)].map(([, file, name]) => ({ file: file!, name: name! }))

it('docs/guarantees.md names tests that exist', () => {
  expect(named.length).toBeGreaterThan(50)
  const missing = named.filter(({ file, name }) => {
    const path = join(root, 'test', file)
    return !existsSync(path) || !readFileSync(path, 'utf8').includes(`'${name}'`)
  })
  expect(missing).toEqual([])
})

it('docs/guarantees.md names a test for each guarantee of its table', () => {
  const promises = [...docs.matchAll(/^\| \[[^\]]+\]\(#([\w-]+)\)/gm)].map(([, anchor]) => anchor!)
  expect(promises.length).toBeGreaterThan(8)
  const sections = docs.split(/^## /m).slice(1)
  const shown = sections.filter((text) => /^- `\S+\.ts`: /m.test(text)).map((text) => text.slice(0, text.indexOf('\n')))
  expect(shown.map((title) => title.toLowerCase().replaceAll(' ', '-'))).toEqual(promises)
})
