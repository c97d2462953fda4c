import { parseArgs } from 'node:util'
import { complaintsOf } from './judgement.ts'
import { type Sample, Soak } from './soak.ts'

/**
 * `npm run test:soak -- --minutes N [--engine sqlite|redis]`: a server at half of its measured maximum for so long,
 * with workers that come and go, then at twice of it, and afterwards. All on the loopback address.
 */
const { values } = parseArgs({
  options: { minutes: { type: 'string', default: '10' }, engine: { type: 'string', default: 'sqlite' } },
})
const minutes = Number(values.minutes)
if (!(minutes > 0 && minutes <= 24 * 60)) throw new Error(`--minutes ${values.minutes}: it is a number up to 1440`)
const steadyMs = minutes * 60_000
const samples = Math.max(Math.min(Math.round(minutes * 2), 60), 8)

const soaked = await Soak.run(
  {
    engine: values.engine,
    measureMs: 10_000,
    steadyMs,
    overloadMs: Math.min(steadyMs / 4, 60_000),
    turnoverMs: 10_000,
    samples,
  },
  (sample) => console.info(line(sample)),
)
const { samples: _, ...figures } = soaked
console.info(JSON.stringify(figures))
const complaints = complaintsOf(soaked)
for (const complaint of complaints) console.error(complaint)
process.exitCode = complaints.length > 0 ? 1 : 0

function line(sample: Sample): string {
  const mb = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`
  const { phase, accepted, waiting, p50Ms, p99Ms, heapBytes, rssBytes, files, storeBytes, databaseBytes, statuses } =
    sample
  const parts = [
    phase.padEnd(8),
    `${accepted} accepted`,
    `${waiting} waiting`,
    `p50 ${p50Ms.toFixed(1)} ms, p99 ${p99Ms.toFixed(1)} ms`,
    `heap ${mb(heapBytes)}, rss ${mb(rssBytes)}`,
    `${files} files`,
    `store ${mb(storeBytes)}, of it the database ${mb(databaseBytes)}`,
    JSON.stringify(statuses),
  ]
  return parts.join('  ')
}
