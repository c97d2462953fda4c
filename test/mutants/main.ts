import { execFileSync } from 'node:child_process'
import { globSync, readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { root } from '../fixtures/root.ts'
import { SeededRandom } from '../simulation/random.ts'
import { Coverage } from './coverage.ts'
import { EQUIVALENT, lineOf } from './equivalent.ts'
import { Lane } from './lane.ts'
import { type Mutant, mutantsOf, shown } from './mutants.ts'
import { withoutBroken } from './types.ts'

/**
 * `npm run test:mutants -- [--in src/task] [--since REF] [--sample N] [--seed S] [--shard 1/4] [--minutes N] [--lanes N]
 * [--tests PATTERN…]`: makes small changes to the sources, by the operators that are usual, each in a copy of the tree,
 * and runs the tests that run the changed function until one fails. In random order by the seed: all of them, or a
 * shard, or `--sample` of them, or as many as fit into `--minutes`. With `--since`, only those in lines that have
 * changed since a commit; with `--again`, only those that survived in the last run.
 */
const TESTS = [
  'test/{task,queue,worker,access,server,store,store-contract,testing,client,remote,cli}/*.test.ts',
  'test/queue-contract/{sqlite,redis,kafka}.test.ts',
]

/** Tests of times and of very many calls, which fail with marks in all functions. */
const LEFT_OUT = ['test/server/responsiveness.test.ts', 'test/store/redis-many-types.test.ts']

const SURVIVORS = join(root, '.cache/mutants/survivors.json')

const { values } = parseArgs({
  options: {
    in: { type: 'string', default: 'src/' },
    since: { type: 'string' },
    again: { type: 'boolean', default: false },
    sample: { type: 'string' },
    seed: { type: 'string', default: String(Date.now() % 1e6) },
    minutes: { type: 'string', default: '600' },
    shard: { type: 'string', default: '1/1' },
    lanes: { type: 'string', default: String(availableParallelism()) },
    tests: { type: 'string', multiple: true, default: TESTS },
  },
})

/** As they were at the beginning: the run takes long, and the sources may change meanwhile. */
const texts = new Map(globSync('src/**/*.{ts,lua,sql}', { cwd: root }).map((file) => [file, read(file)]))
const textOf = (file: string) => texts.get(file)!
const chosen = sampled(mutantsOf(root, values.in).filter(isChanged()).filter(isNoticeable).filter(isWanted()))
const coverage = new Coverage()
await coverage.find(globSync(values.tests, { cwd: root, exclude: LEFT_OUT }).sort())
const passesAlone = new Map<string, boolean>()
const lanes = Array.from({ length: Number(values.lanes) }, () => new Lane(coverage, passesAlone))
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop(130))
try {
  const mutants = await withoutBroken(lanes[0]!.tree, chosen)
  const until = performance.now() + Number(values.minutes) * 60_000
  const waiting = mutants.entries()
  const run: Mutant[] = []
  const survivors: Mutant[] = []
  await Promise.all(
    lanes.map(async (lane) => {
      for (const [index, mutant] of waiting) {
        if (performance.now() > until) break
        const noticed = await lane.notice(mutant)
        run.push(mutant)
        if (noticed === null) survivors.push(mutant)
        writeFileSync(SURVIVORS, JSON.stringify(survivors.map(identityOf)))
        const verdict = noticed === null ? 'SURVIVED' : `noticed: ${noticed.slice(0, 200)}`
        console.info(`${index + 1}/${mutants.length} ${shown(mutant, textOf(mutant.file))}\n  ${verdict}`)
      }
    }),
  )
  report(run, survivors, chosen.length - mutants.length)
} finally {
  stop()
}

function stop(code?: number): void {
  for (const lane of lanes) lane.stop()
  if (code !== undefined) process.exit(code)
}

function read(file: string): string {
  return readFileSync(join(root, file), 'utf8')
}

function sampled(mutants: readonly Mutant[]): Mutant[] {
  const random = new SeededRandom(Number(values.seed))
  const drawn = mutants.map((mutant) => ({ mutant, draw: random.next() })).sort((a, b) => a.draw - b.draw)
  const [shard, shards] = values.shard.split('/').map(Number) as [number, number]
  const ours = drawn.filter((_, index) => index % shards === shard - 1)
  return ours.slice(0, Number(values.sample ?? ours.length)).map(({ mutant }) => mutant)
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
  const its = lineOf(shown(mutant, textOf(mutant.file)))
  return !EQUIVALENT.some(([file, line]) => file === mutant.file && line === its)
}

/** With `--again`, whether a mutant has survived in the last run. Its line may have moved since. */
function isWanted(): (mutant: Mutant) => boolean {
  if (!values.again) return () => true
  const survivors = new Set(JSON.parse(readFileSync(SURVIVORS, 'utf8')))
  return (mutant) => survivors.has(identityOf(mutant))
}

function identityOf(mutant: Mutant): string {
  return shown(mutant, textOf(mutant.file)).replace(/:\d+/, '')
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
