import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { judge } from './judge.ts'
import { STORES, type StoreName } from './judged-stores.ts'

/**
 * `npm run test:judge -- [--store NAME] [--seed N] [--minutes N] [--file FILE]`: judges the queue on a store from
 * outside, by its HTTP API, its event stream and files that handlers write, while processes and servers of the store
 * are killed, frozen and restarted. `--file` keeps the record.
 */
const { values } = parseArgs({
  options: {
    store: { type: 'string', default: 'sqlite' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    minutes: { type: 'string', default: '1' },
    file: { type: 'string' },
  },
})
if (!STORES.includes(values.store as StoreName)) {
  throw new Error(`--store ${values.store} must be one of ${STORES.join(', ')}`)
}
const minutes = Number(values.minutes)
if (!(minutes > 0 && minutes <= 24 * 60)) throw new Error(`--minutes ${values.minutes} must be a number up to 1440`)

// Its processes end with it.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(2))
console.info(`store ${values.store}, seed ${values.seed}, ${minutes} minutes`)
const { seen, violations } = await judge(values.store as StoreName, Number(values.seed), minutes * 60)
if (values.file) writeFileSync(values.file, JSON.stringify(seen, null, 1))
const faults = Map.groupBy(seen.faults, ({ what }) => what)
const figures = {
  submissions: seen.submissions.length,
  tasks: seen.tasks.length,
  events: seen.events.length,
  runs: seen.runs.filter(({ what }) => what === 'began').length,
  counts: seen.counts,
  changes: seen.changes.length,
  limits: seen.limits.length,
  faults: Object.fromEntries([...faults].map(([what, all]) => [what, all.length])),
  violations: violations.length,
}
console.info(JSON.stringify(figures))
for (const { rule, detail } of violations.slice(0, 20)) console.error(`  ${rule}: ${detail}`)
process.exit(violations.length > 0 ? 1 : 0)
