import { execFileSync } from 'node:child_process'
import { globSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { root } from '../fixtures/root.ts'
import { Tree } from '../mutations/tree.ts'
import { SeededRandom } from '../simulation/random.ts'
import { argsOf, coverageOf, testsOf } from './coverage.ts'
import { EQUIVALENT } from './equivalent.ts'
import { type Mutant, mutantsOf, mutated, shown } from './mutants.ts'
import { withoutBroken } from './types.ts'

/**
 * `npm run test:mutants -- [--in src/task] [--since REF] [--sample N] [--seed S] [--minutes N] [--tests PATTERN…]`:
 * makes small changes to the sources, by the operators that are usual, each in a copy of the tree, and runs the tests
 * that run the changed function until one fails. In random order by the seed: all of them, or `--sample` of them, or as
 * many as fit into `--minutes`. With `--since`, only those in lines that have changed since a commit.
 */
const TESTS = [
  'test/{task,queue,worker,access,server,store,store-contract,testing,client,remote,embed,notify,cli}/*.test.ts',
  'test/queue-contract/{sqlite,redis,kafka}.test.ts',
]
/** Beyond this, a test file counts as one that never ends, and the mutant as noticed. */
const MS_MAX = 20_000
const TIMES_MAX = 4
const TEST_MS_MAX = 60_000

const { values } = parseArgs({
  options: {
    in: { type: 'string', default: 'src/' },
    since: { type: 'string' },
    sample: { type: 'string' },
    seed: { type: 'string', default: String(Date.now() % 1e6) },
    minutes: { type: 'string', default: '600' },
    tests: { type: 'string', multiple: true, default: TESTS },
  },
})

const textOf = (file: string) => readFileSync(join(root, file), 'utf8')
const chosen = sampled(mutantsOf(root, values.in).filter(isChanged()).filter(isNoticeable))
const coverage = await coverageOf(globSync(values.tests, { cwd: root }).sort())
const tree = new Tree()
try {
  const mutants = await withoutBroken(tree, chosen)
  const survivors: Mutant[] = []
  const until = performance.now() + Number(values.minutes) * 60_000
  let run = 0
  for (const [index, mutant] of mutants.entries()) {
    if (performance.now() > until) break
    run = index + 1
    const failed = await notice(mutant, testsOf(mutant, coverage))
    if (failed === null) survivors.push(mutant)
    const verdict = failed === null ? 'SURVIVED' : `noticed: ${failed}`
    console.info(`${index + 1}/${mutants.length} ${shown(mutant, textOf(mutant.file))}\n  ${verdict}`)
  }
  report(mutants.slice(0, run), survivors, chosen.length - mutants.length)
} finally {
  tree.remove()
}

/** The title of the test that fails, or null. */
async function notice(mutant: Mutant, tests: readonly string[]): Promise<string | null> {
  const path = join(tree.folder, mutant.file)
  const text = textOf(mutant.file)
  writeFileSync(path, mutated(text, mutant))
  try {
    for (const test of tests) {
      const verdict = await tree.test(argsOf(test), MS_MAX + TIMES_MAX * coverage[test]!.ms, { testMsMax: TEST_MS_MAX })
      if (verdict === null) return `${test} does not end`
      if (verdict.failed !== null) return verdict.failed
    }
    return null
  } finally {
    writeFileSync(path, text)
  }
}

function sampled(mutants: readonly Mutant[]): Mutant[] {
  const random = new SeededRandom(Number(values.seed))
  const drawn = mutants.map((mutant) => ({ mutant, draw: random.next() })).sort((a, b) => a.draw - b.draw)
  return drawn.slice(0, Number(values.sample ?? mutants.length)).map(({ mutant }) => mutant)
}

/** Whether a mutant is in a line that has changed since a commit. */
function isChanged(): (mutant: Mutant) => boolean {
  if (values.since === undefined) return () => true
  const diff = execFileSync('git', ['diff', '-U0', values.since, '--', 'src'], { cwd: root, encoding: 'utf8' })
  const lines = new Set<string>()
  let file = ''
  for (const line of diff.split('\n')) {
    if (line.startsWith('+++ b/')) file = line.slice('+++ b/'.length)
    const [, from, count = '1'] = /^@@ -\S+ \+(\d+)(?:,(\d+))? @@/.exec(line) ?? []
    for (let at = 0; from !== undefined && at < Number(count); at++) lines.add(`${file}:${Number(from) + at}`)
  }
  return ({ file, line }) => lines.has(`${file}:${line}`)
}

function isNoticeable(mutant: Mutant): boolean {
  const [, , after] = shown(mutant, textOf(mutant.file)).split('\n')
  return !EQUIVALENT.some(([file, line]) => file === mutant.file && `  + ${line}` === after)
}

function report(mutants: readonly Mutant[], survivors: readonly Mutant[], broken: number): void {
  const partOf = ({ file }: Mutant) =>
    file
      .split('/')
      .slice(1, file.startsWith('src/store/') ? 3 : 2)
      .join('/')
  for (const [part, all] of Object.entries(Object.groupBy(mutants, partOf))) {
    const left = survivors.filter((mutant) => partOf(mutant) === part)
    console.info(`${part}: ${all!.length - left.length} of ${all!.length} noticed`)
  }
  const noticed = mutants.length - survivors.length
  const score = ((100 * noticed) / Math.max(mutants.length, 1)).toFixed(1)
  console.info(`${noticed} of ${mutants.length} noticed (${score} %), ${broken} not compiled, seed ${values.seed}`)
  for (const survivor of survivors) console.info(shown(survivor, textOf(survivor.file)))
  process.exitCode = survivors.length > 0 ? 1 : 0
}
