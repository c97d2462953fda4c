import { spawnSync } from 'node:child_process'
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { root } from '../fixtures/root.ts'
import { snippetsOf } from '../fixtures/snippets.ts'

const text = (file: string) => readFileSync(join(root, file), 'utf8')

it('collects all documents for the site: each is in its sidebar, and every link leads to a page or a file', () => {
  const { status, stderr } = spawnSync(process.execPath, ['site/pages.ts'], { cwd: root, encoding: 'utf8' })
  expect(stderr).toBe('')
  expect(status).toBe(0)
  expect(text('site/pages/index.md')).toContain('](/how-to/)')
  expect(text('site/pages/zh/index.md')).toContain('](/zh/how-to/add-a-handler)')
  expect(text('site/pages/zh/kafka.md')).toContain('本页尚未翻译')
  const pages = (folder: string) => globSync('**/*.md', { cwd: join(root, folder), exclude: ['zh/**'] }).sort()
  expect(pages('site/pages/zh')).toEqual(pages('site/pages'))
})

const translated = globSync('docs/zh/**/*.md', { cwd: root })

it.each(translated)('%s has the code of the English page', (page) => {
  const code = (file: string) => snippetsOf(file).map(({ code }) => code)
  expect(code(page)).toEqual(code(page.replace('docs/zh/', 'docs/')))
})
