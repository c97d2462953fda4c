import { execFile, execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { root } from '../fixtures/root.ts'
import { MUTATIONS, type Mutation, placeOf } from './mutations.ts'

/**
 * `npm run test:mutations -- [--store SQLite|Redis] [--only TEXT]`: breaks each rule in a copy of the tree and runs
 * the contract there, which must fail. For SQLite the simulation runs as well, to tell whether it sees it too.
 */
const CONTRACTS = {
  SQLite: [
    'test/queue-contract/sqlite.test.ts',
    'test/store-contract/sqlite.test.ts',
    'test/store/leaks.test.ts',
    ...['-t', '^SQLite(?! on a file)'],
  ],
  Redis: [
    'test/queue-contract/redis.test.ts',
    'test/store-contract/redis.test.ts',
    'test/store/leaks.test.ts',
    ...['wake', 'restore', 'events', 'partition-messages', 'maintainer'].map((of) => `test/store/redis-${of}.test.ts`),
  ],
}
const SIMULATED_SEEDS = 150
/** A broken store may hang: the time-out of a test catches that, and this one is longer. */
const RUN_MS_MAX = 180_000

interface Verdict {
  failed: string | null
  passed: number
}

const { values } = parseArgs({ options: { store: { type: 'string' }, only: { type: 'string', default: '' } } })
const chosen = MUTATIONS.filter(({ store, rule }) => store === (values.store ?? store) && rule.includes(values.only))
const folder = copyOfTree()
try {
  await refuseUnlessWhole()
  const missed = []
  for (const mutation of chosen) if (!(await isCaught(mutation))) missed.push(mutation)
  console.info(`${chosen.length - missed.length} of ${chosen.length} mutations are caught`)
  process.exitCode = missed.length > 0 ? 1 : 0
} finally {
  rmSync(folder, { recursive: true, maxRetries: 5, retryDelay: 100 })
}

/** Without a mutation everything must pass, or a failure would show nothing. */
async function refuseUnlessWhole(): Promise<void> {
  for (const store of new Set(chosen.map(({ store }) => store))) {
    const { failed, passed } = await contract(store)
    if (failed !== null || passed === 0) throw new Error(`the contract fails on ${store} as it is: ${failed}`)
  }
}

async function isCaught(mutation: Mutation): Promise<boolean> {
  const { store, rule } = mutation
  const { path, before, after } = placeOf(mutation, folder)
  writeFileSync(path, after)
  try {
    const { failed } = await contract(store)
    const simulated = store === 'SQLite' ? await simulation() : ''
    console.info(
      [
        store.padEnd(6),
        rule.padEnd(42),
        failed === null ? 'MISSED' : 'caught',
        simulated.padEnd(20),
        failed ?? '',
      ].join('  '),
    )
    return failed !== null
  } finally {
    writeFileSync(path, before)
  }
}

async function contract(store: Mutation['store']): Promise<Verdict> {
  const report = join(folder, 'report.json')
  rmSync(report, { force: true })
  const vitest = join(root, 'node_modules/vitest/vitest.mjs')
  const flags = ['--bail=1', '--reporter=json', `--outputFile=${report}`, '--testTimeout=15000']
  await run([vitest, 'run', ...CONTRACTS[store], ...flags])
  // A store that is broken may also keep the run from ending.
  if (!existsSync(report)) return { failed: `no end within ${RUN_MS_MAX / 1_000} s`, passed: 0 }
  const { testResults } = JSON.parse(readFileSync(report, 'utf8')) as Report
  const tests = testResults.flatMap(({ assertionResults }) => assertionResults)
  return {
    failed: tests.find(({ status }) => status === 'failed')?.title ?? null,
    passed: tests.filter(({ status }) => status === 'passed').length,
  }
}

interface Report {
  testResults: { assertionResults: { status: string; title: string }[] }[]
}

async function simulation(): Promise<string> {
  const output = await run(['test/simulation/main.ts', '--seed', '1', '--seeds', String(SIMULATED_SEEDS)])
  if (output.code === 0) return ''
  const rule = /^ {2}(\w+): /m.exec(output.text)?.[1]
  return `simulation: ${rule ?? 'crash'}`
}

function run(args: string[]): Promise<{ code: number; text: string }> {
  const options = { cwd: folder, timeout: RUN_MS_MAX, maxBuffer: 1e8 }
  return new Promise((resolve) => {
    execFile(process.execPath, args, options, (error, stdout, stderr) => {
      resolve({ code: error ? 1 : 0, text: stdout + stderr })
    })
  })
}

/** The files that git knows, in their present state. */
function copyOfTree(): string {
  const copy = mkdtempSync(join(tmpdir(), 'xqueue-mutations-'))
  const listed = execFileSync('git', ['ls-files', '-co', '--exclude-standard', '-z'], { cwd: root, encoding: 'utf8' })
  const files = listed.split('\0').filter((name) => name !== '' && !/^(dashboard|bench)\//.test(name))
  for (const name of files) cpSync(join(root, name), join(copy, name), { force: true })
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'))
  return copy
}
