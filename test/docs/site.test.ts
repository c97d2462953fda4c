import { spawnSync } from 'node:child_process'
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { root } from '../fixtures/root.ts'

/** Generated references, and documents for engineers who change XQueue. */
const IN_ENGLISH_ONLY = ['architecture', 'changelog', 'contributing', 'decisions', 'reference/cli', 'reference/http']
const OUTSIDE_OF_DOCS: Readonly<Record<string, string>> = {
  'README.zh-CN.md': 'README.md',
  'docs/zh/clients/go.md': 'clients/go/README.md',
  'docs/zh/clients/python.md': 'clients/python/README.md',
  'docs/zh/security-policy.md': 'SECURITY.md',
}

const text = (file: string) => readFileSync(join(root, file), 'utf8')
const pagesIn = (folder: string) => globSync('**/*.md', { cwd: join(root, folder), exclude: ['zh/**'] }).sort()

it('collects all documents for the site: each is in its sidebar, and every link leads to a page or a file', () => {
  const { status, stderr } = spawnSync(process.execPath, ['site/pages.ts'], { cwd: root, encoding: 'utf8' })
  expect(stderr).toBe('')
  expect(status).toBe(0)
  expect(text('site/pages/index.md')).toContain('](/how-to/)')
  expect(text('site/pages/zh/index.md')).toContain('](/zh/how-to/add-a-handler)')
  expect(pagesIn('site/pages/zh')).toEqual(pagesIn('site/pages'))
})

it('has every page in Chinese but the references', () => {
  const untranslated = pagesIn('site/pages/zh').filter((page) => text(`site/pages/zh/${page}`).includes('只提供英文版'))
  expect(untranslated).toEqual(IN_ENGLISH_ONLY.map((page) => `${page}.md`))
})

const FENCE = /^```.*\n[\s\S]*?^```$/gm

/** The parts of a page that are the same in every language. */
function shapeOf(page: string) {
  const prose = page
    .replace(FENCE, '')
    .replace(/<!--[\s\S]*?-->/g, '')
    .replace(/\]\([^)]*\)/g, ']')
  const all = (pattern: RegExp, within = prose) => within.match(pattern) ?? []
  return {
    headings: all(/^#+(?= )/gm),
    blocks: prose.split(/\n{2,}/).filter((block) => block.trim() !== '').length,
    items: all(/^ *([-*]|\d+\.) /gm).length,
    images: all(/!\[/g).length,
    rows: all(/^\|.*\|$/gm).map((row) => ({
      cells: all(/(?<!\\)\|/g, row).length - 1,
      names: all(/`[^`]+`/g, row).sort(),
      numbers: all(/\d+([.,]\d+)*/g, row.replace(/`[^`]+`/g, '')).sort(),
    })),
  }
}

const codeOf = (page: string) => page.match(FENCE) ?? []
const chinese = ['README.zh-CN.md', ...globSync('docs/zh/**/*.md', { cwd: root })]
const englishOf = (file: string) => OUTSIDE_OF_DOCS[file] ?? file.replace('docs/zh/', 'docs/')

it.each(chinese)('%s has the sections, lists, tables and figures of the English page', (file) => {
  expect(shapeOf(text(file))).toEqual(shapeOf(text(englishOf(file))))
})

// The code of the README has comments and texts in Chinese.
it.each(chinese.filter((file) => file !== 'README.zh-CN.md'))('%s has the code of the English page', (file) => {
  expect(codeOf(text(file))).toEqual(codeOf(text(englishOf(file))))
})

it.each([
  ['a section', /^## .*$/m],
  ['a paragraph', /^请按顺序.*\n\n/m],
  ['a row', /^\| `xqueue_held`.*\n/m],
  ['a name', /`xqueue_held`/],
  ['a figure', /(?<=^\| `degraded` +\| )200/m],
  ['an item', /^1\. .*\n/m],
])('notices that %s is missing in a translation', (_, part) => {
  const page = text('docs/zh/operations.md')
  expect(page).toMatch(part)
  expect(shapeOf(page.replace(part, ''))).not.toEqual(shapeOf(text('docs/operations.md')))
})
