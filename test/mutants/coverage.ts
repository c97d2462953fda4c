import { globSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { root } from '../fixtures/root.ts'
import { Tree } from '../mutations/tree.ts'
import type { Mutant } from './mutants.ts'
import { withHits } from './typescript.ts'

/** By test file: how long it takes, and the functions that it runs, `<file>#<function>`. */
type Coverage = Record<string, { ms: number; hits: string[] }>

const CACHE = join(root, '.cache/mutants/coverage.json')
const RUN_MS_MAX = 600_000
const TEST_MS_MAX = 60_000
/** A mutant that the tests of its folder do not notice would take very long otherwise. */
const OTHERS_MS_MAX = 60_000
/** The form of a store that is as good as the others, and faster. */
const OPTIONS: Readonly<Record<string, string[]>> = {
  'test/queue-contract/sqlite.test.ts': ['-t', '^SQLite(?! on a file)'],
}

export function argsOf(test: string): string[] {
  return [test, ...(OPTIONS[test] ?? [])]
}

/** Runs each test file once with every function marked, unless an earlier run has; the answer may be a little old. */
export async function coverageOf(tests: readonly string[]): Promise<Coverage> {
  const known = read()
  const missing = tests.filter((test) => !known[test])
  if (missing.length === 0) return known
  const tree = new Tree()
  try {
    for (const file of globSync('src/**/*.ts', { cwd: tree.folder })) {
      const path = join(tree.folder, file)
      writeFileSync(path, withHits(readFileSync(path, 'utf8'), file))
    }
    for (const [index, test] of missing.entries()) {
      console.info(`${index + 1} of ${missing.length}: the functions that ${test} runs`)
      const found = await hitsOf(tree, test)
      if (found) known[test] = found
      else console.warn(`${test} fails with its functions marked, and is left out`)
      mkdirSync(dirname(CACHE), { recursive: true })
      writeFileSync(CACHE, JSON.stringify(known))
    }
  } finally {
    tree.remove()
  }
  return known
}

async function hitsOf(tree: Tree, test: string): Promise<Coverage[string] | null> {
  const folder = mkdtempSync(join(tmpdir(), 'xqueue-hits-'))
  const started = performance.now()
  const env = { NODE_OPTIONS: `--import=${join(import.meta.dirname, 'hits.ts')}`, MUTANT_HITS: folder }
  const verdict = await tree.test(argsOf(test), RUN_MS_MAX, { env, testMsMax: TEST_MS_MAX })
  const hits = readdirSync(folder).flatMap((name) => readFileSync(join(folder, name), 'utf8').trim().split('\n'))
  rmSync(folder, { recursive: true })
  if (verdict === null || verdict.failed !== null || verdict.passed === 0) return null
  return { ms: Math.round(performance.now() - started), hits: [...new Set(hits)].sort() }
}

function read(): Coverage {
  try {
    return JSON.parse(readFileSync(CACHE, 'utf8'))
  } catch {
    return {}
  }
}

/** The tests of a folder, before the others; the code of a store in SQL and Lua is not marked. */
const OWN: readonly [source: RegExp, tests: RegExp][] = [
  [/\.(?:sql|lua)$/, /^test\/(?:queue-contract|store-contract|store)\//],
  [/^src\/store\//, /^test\/(?:queue-contract|store-contract|store)\//],
  [/^src\/task\//, /^test\/task\//],
  [/^src\/queue\//, /^test\/(?:queue|queue-contract)\//],
  [/^src\/worker\//, /^test\/worker\//],
  [/^src\/access\//, /^test\/access\//],
  [/^src\/server\//, /^test\/server\//],
]
const LOADS = {
  sql: 'src/store/sqlite/database/database.ts#module',
  lua: 'src/store/redis/client/library.ts#module',
}

/** The tests that run a mutant: those of its own folder, and then short ones of other folders. */
export function testsOf({ file, within }: Mutant, coverage: Coverage): string[] {
  const [, language] = /\.(sql|lua)$/.exec(file) ?? []
  const own = OWN.find(([source]) => source.test(file))![1]
  const hits = language ? LOADS[language as 'sql'] : `${file}#${within}`
  const covering = Object.keys(coverage).filter((test) => coverage[test]!.hits.includes(hits))
  const shortest = covering.sort((a, b) => coverage[a]!.ms - coverage[b]!.ms)
  let left = language ? 0 : OTHERS_MS_MAX
  const others = shortest.filter((test) => {
    if (own.test(test)) return false
    left -= coverage[test]!.ms
    return left > 0
  })
  return [...shortest.filter((test) => own.test(test)), ...others]
}
