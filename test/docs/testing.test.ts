import { execFileSync } from 'node:child_process'
import { readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, expect, it } from 'vitest'
import * as testing from '../../src/testing.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { root } from '../fixtures/root.ts'
import { writeSnippets } from '../fixtures/snippets.ts'

const docs = readFileSync(join(root, 'docs/testing.md'), 'utf8')
let folder: string

beforeAll(() => {
  folder = temporaryFolder()
  for (const name of ['src', 'node_modules', 'package.json']) symlinkSync(join(root, name), join(folder, name))
  writeSnippets('docs/testing.md', folder)
})

it('docs/testing.md shows tests that compile and pass', () => {
  const settings = { extends: join(root, 'tsconfig.json'), include: ['*.ts'] }
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(settings))
  const run = (...args: string[]) => execFileSync(process.execPath, args, { cwd: folder, encoding: 'utf8' })
  run('node_modules/typescript/bin/tsc', '--noEmit', '--rootDir', '/', '-p', '.')
  expect(run('--test', '--test-reporter=tap', 'handlers.test.ts')).toMatch(/# pass 4\n# fail 0/)
})

it('docs/testing.md describes every call', () => {
  const calls = Object.getOwnPropertyNames(testing.TestQueue.prototype).filter((name) => name !== 'constructor')
  expect(calls.length).toBeGreaterThan(10)
  expect(calls.filter((name) => name !== 'close' && !docs.includes(name))).toEqual([])
})

it('exports only the public names', () => {
  expect(Object.keys(testing).sort()).toEqual(['TestQueue', 'createTestQueue'])
})
