import { globSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { root } from '../fixtures/root.ts'

const read = (file: string) => readFileSync(join(root, file), 'utf8')
/** Documents for people who change the code; paths in them begin at the root or below src/. */
const DOCUMENTS = ['ARCHITECTURE.md', 'CONTRIBUTING.md', 'docs/decisions.md']
const FILE = /^\w[\w.*-]*(\/[\w.*-]+)*\.(ts|tsx|lua|sql)$/
const FOLDER = /^\w[\w.-]*(\/[\w.-]+)*\/$/

/** The files and folders that a document names in backticks. */
function pathsIn(text: string): string[] {
  const words = [...text.matchAll(/`([^`\n]+)`/g)].map(([, word]) => word!)
  return [...new Set(words.filter((word) => FILE.test(word) || FOLDER.test(word)))]
}

function exists(path: string): boolean {
  return ['', 'src/'].some((start) => globSync(start + path, { cwd: root }).length > 0)
}

it.each(DOCUMENTS)('every file and folder that %s names exists', (document) => {
  const paths = pathsIn(read(document))
  expect(paths.length).toBeGreaterThan(10)
  expect(paths.filter((path) => !exists(path))).toEqual([])
})

it('every name in code that ARCHITECTURE.md locates in a file is in that file', () => {
  const named = [...read('ARCHITECTURE.md').matchAll(/`(#?\w+)`\s+(?:in|of)\s+`([\w./-]+\.(?:ts|lua))`/g)]
  expect(named.length).toBeGreaterThan(10)
  const missing = named
    .map(([, name, path]) => ({ name: name!, path: path! }))
    .filter(({ name, path }) => !read(exists(`src/${path}`) ? `src/${path}` : path).includes(name))
  expect(missing).toEqual([])
})

it('finds a path that does not exist', () => {
  const text = '`store/nowhere.ts`, `src/nowhere/`, `src/store/sqlite/`, `xqueue/tasks/+`, `@redis/client`, `/metrics`'
  expect(pathsIn(text).filter((path) => !exists(path))).toEqual(['store/nowhere.ts', 'src/nowhere/'])
})

it('CONTRIBUTING.md describes every folder of tests', () => {
  const folders = readdirSync(join(root, 'test'), { withFileTypes: true }).filter((entry) => entry.isDirectory())
  expect(folders.length).toBeGreaterThan(20)
  const rows = read('CONTRIBUTING.md')
  expect(folders.map(({ name }) => name).filter((name) => !rows.includes(`| \`test/${name}/\``))).toEqual([])
})

it('ARCHITECTURE.md has at most 250 lines', () => {
  expect(read('ARCHITECTURE.md').trimEnd().split('\n').length).toBeLessThanOrEqual(250)
})
