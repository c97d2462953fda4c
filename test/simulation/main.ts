import { parseArgs } from 'node:util'
import { add, faultsOf, noFigures } from './figures.ts'
import { simulate } from './simulate.ts'

/**
 * `npm run test:simulate -- [--seed N] [--seeds N] [--seconds N]`: runs seeds from `--seed` on, until so many are done
 * or so many seconds are over (default 60). A seed that breaks a rule is printed, and replays exactly with `--seed`.
 */
const { values } = parseArgs({
  options: { seed: { type: 'string' }, seeds: { type: 'string' }, seconds: { type: 'string' } },
})
const given = values.seed === undefined ? null : Number(values.seed)
const first = given ?? Math.floor(Math.random() * 2 ** 31)
const seeds = Number(values.seeds ?? (given === null ? Number.POSITIVE_INFINITY : 1))
const seconds = Number(values.seconds ?? (values.seeds === undefined ? 60 : Number.POSITIVE_INFINITY))

const sum = noFigures()
const started = performance.now()
let broken = 0
console.info(`seeds from ${first}`)
for (let seed = first; seed < first + seeds && performance.now() - started < seconds * 1_000; seed++) {
  const run = await simulate(seed).catch((error: Error) => error)
  if (run instanceof Error) {
    broken += 1
    console.error(`seed ${seed} fails: npm run test:simulate -- --seed ${seed}\n  crash: ${run.message}`)
    continue
  }
  const { plan, violations, figures, trace } = run
  add(sum, figures)
  if (given !== null && seeds === 1) console.info(JSON.stringify({ plan, trace }, null, 2))
  if (violations.length === 0) continue
  broken += 1
  console.error(`seed ${seed} breaks ${violations.length} rules: npm run test:simulate -- --seed ${seed}`)
  for (const { rule, detail } of violations.slice(0, 5)) console.error(`  ${rule}: ${detail}`)
}
const took = ((performance.now() - started) / 1_000).toFixed(1)
console.info(`${took} s: ${JSON.stringify({ ...sum, faults: faultsOf(sum), broken })}`)
process.exitCode = broken > 0 ? 1 : 0
