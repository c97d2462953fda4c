import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, statSync } from 'node:fs'
import { dirname, join, normalize, relative } from 'node:path'
import { expect, it } from 'vitest'
import { root } from '../fixtures/root.ts'

const listed = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', '*.md', 'llms.txt'], {
  cwd: root,
})
const documents = listed
  .toString()
  .trim()
  .split('\n')
  .filter((file) => existsSync(join(root, file)))

/** A document without its code, in which brackets mean something else. */
function proseOf(file: string): string {
  return readFileSync(join(root, file), 'utf8')
    .replace(/^```[\s\S]*?^```$/gm, '')
    .replace(/`[^`\n]*`/g, (code) => code.replace(/[[\]()<>]/g, ' '))
}

/** The anchors of a document's headings, as GitHub makes them. */
function anchorsOf(file: string): Set<string> {
  const seen = new Map<string, number>()
  const text = readFileSync(join(root, file), 'utf8').replace(/^```[\s\S]*?^```$/gm, '')
  return new Set(
    [...text.matchAll(/^#{1,6} +(.+?) *$/gm)].map(([, heading]) => {
      const anchor = heading!
        .replace(/\[([^\]]*)\]\([^)]*\)/g, '$1')
        .toLowerCase()
        .replace(/[^\p{L}\p{N}\p{M} _-]/gu, '')
        .replaceAll(' ', '-')
      const times = seen.get(anchor) ?? 0
      seen.set(anchor, times + 1)
      return times === 0 ? anchor : `${anchor}-${times}`
    }),
  )
}

/** The fault of a link to a file or heading of this repository, or null. */
function problemOf(document: string, target: string): string | null {
  if (/^([a-z][a-z+.-]*:|\/\/)/i.test(target)) return null
  const [path = '', anchor] = target.split('#').map(decodeURIComponent)
  const file = path === '' ? document : normalize(join(dirname(document), path))
  const place = join(root, file)
  if (relative(root, place).startsWith('..')) return 'leaves the repository'
  if (!existsSync(place)) return 'does not exist'
  if (anchor === undefined) return null
  if (statSync(place).isDirectory() || !file.endsWith('.md')) return 'has an anchor, but is no document'
  return anchorsOf(file).has(anchor) ? null : `has no heading #${anchor}`
}

it('reads all documents', () => {
  expect(documents).toEqual(expect.arrayContaining(['README.md', 'ARCHITECTURE.md', 'docs/clients.md']))
})

it.each(documents)('every link in %s has a target', (document) => {
  const targets = [...proseOf(document).matchAll(/\]\(<?([^)\s>]+)>?(?: "[^"]*")?\)|^\[[^\]]+\]: +(\S+)/gm)]
  const wrong = targets
    .map(([, inline, reference]) => inline ?? reference!)
    .map((target) => ({ target, problem: problemOf(document, target) }))
    .filter(({ problem }) => problem !== null)
  expect(wrong).toEqual([])
})

it('finds a link without a target', () => {
  expect(problemOf('README.md', 'docs/nowhere.md')).toBe('does not exist')
  expect(problemOf('docs/clients.md', '../README.md#nowhere')).toBe('has no heading #nowhere')
  expect(problemOf('docs/clients.md', '../README.md#redis-and-kafka')).toBeNull()
  expect(problemOf('docs/clients.md', '#settling')).toBeNull()
})
