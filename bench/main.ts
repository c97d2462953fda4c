import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { removeAtExit } from '../test/fixtures/processes.ts'
import { access } from './access.ts'
import { groups, limits } from './groups.ts'
import { idle } from './idle.ts'
import { kafkaBesideOthers } from './kafka.ts'
import { backlog, library } from './library.ts'
import { live } from './live.ts'
import { overload } from './overload.ts'
import { page } from './page.ts'
import { earlier, PEERS } from './peers/catalog.ts'
import { readRecord, writePages, writeRecord } from './peers/document.ts'
import { http } from './peers/http.ts'
import { isExact, latency, rates, type Settings, shapes } from './peers/suites.ts'
import { besideBefore, PARTS, type Record as Results } from './peers/tables.ts'
import { redisBacklog, redisBesidePeers, redisVariants } from './redis.ts'
import { machine, type Row, table } from './report.ts'
import { startRedis } from './servers.ts'
import { tracing } from './tracing.ts'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '5' },
    stores: { type: 'string' },
    only: { type: 'string' },
    before: { type: 'string' },
    smoke: { type: 'boolean', default: false },
    write: { type: 'boolean', default: false },
    tasks: { type: 'string', default: '20000' },
    out: { type: 'string', default: join(import.meta.dirname, 'results/latest.json') },
  },
})
const rounds = Number(values.rounds)
const seconds = Number(values.seconds)
/** Beside other queues: interleaved rounds of all of them, with their own table. */
const peerSuites = { peers: rates, shapes, latency, http }
const before = machine()
// What a run has started ends with it, also if it is interrupted.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))
const folder = removeAtExit(mkdtempSync(join(tmpdir(), 'xqueue-bench-redis-')))
const redis = await startRedis(folder)
const suites: Record<string, () => Promise<Row[]>> = {
  library: () => library(redis.port, rounds),
  overload: () => overload(Math.min(rounds, 3), seconds * 2),
  access: () => access(redis.port, rounds, seconds),
  idle: () => idle(redis.port, redis.pid, seconds * 6, values.stores?.split(',')),
  live: () => live(rounds),
  page: () => page(rounds, seconds * 2),
  backlog: () => backlog(rounds, [10_000, 100_000, 1_000_000]),
  redis: () => redisBesidePeers(redis.port, rounds),
  kafka: () => kafkaBesideOthers(redis.port, Math.min(rounds, 3), seconds * 2),
  groups: () => groups(redis.port, rounds, values.stores?.split(',')),
  limits: () => limits(redis.port, rounds, values.stores?.split(',')),
  tracing: () => tracing(rounds),
  'redis-variants': () => redisVariants(redis.port, rounds),
  'redis-backlog': () => redisBacklog(Math.min(rounds, 3), [10_000, 1_000_000]),
}
const known = [...Object.keys(peerSuites), ...Object.keys(suites)]
const asked = positionals.length > 0 ? positionals : known
const unknown = asked.filter((name) => !known.includes(name))
const contenders = [...PEERS, ...(values.before === undefined ? [] : earlier(values.before))].map(({ id }) => id)
const strangers = (values.only?.split(',') ?? []).filter((id) => !contenders.includes(id))
if (unknown.length > 0) {
  console.error(`no suite ${unknown.join(', ')}: there are ${known.join(', ')}`)
  process.exitCode = 2
} else if (strangers.length > 0) {
  console.error(`no contender ${strangers.join(', ')}: there are ${contenders.join(', ')}`)
  process.exitCode = 2
} else {
  await besidePeers(asked.filter((name) => name in peerSuites) as (keyof typeof peerSuites)[])
  await ratios(asked.filter((name) => name in suites))
}
await redis.stop()
rmSync(folder, { recursive: true })

async function ratios(names: readonly string[]) {
  if (names.length === 0) return
  const rows: Row[] = []
  for (const name of names) {
    console.error(`${name} …`)
    rows.push(...(await suites[name]!()))
  }
  console.log(table(rows))
  mkdirSync(join(values.out, '..'), { recursive: true })
  writeFileSync(values.out, `${JSON.stringify({ machine: before, rounds, rows }, null, 2)}\n`)
}

/** With `--smoke` a moment of each, and nothing is stored; with `--write` the documentation gets the new tables. */
async function besidePeers(names: readonly (keyof typeof peerSuites)[]) {
  if (names.length === 0) return
  const [only, isSmoke] = [values.only?.split(',') ?? [], values.smoke]
  const settings: Settings = {
    ...(isSmoke ? { rounds: 1, tasks: 200, seconds: 0.5 } : { rounds, tasks: Number(values.tasks), seconds }),
    ...{ only, isSmoke, before: values.before && resolve(values.before) },
  }
  const record: Results = { ...readRecord(), machine: before }
  for (const name of names) {
    const results = await peerSuites[name](settings)
    if (!isExact(results)) process.exitCode = 1
    if (isSmoke) continue
    record[name] = results
    // A long run that is ended keeps what it has.
    writeRecord(record)
    if (values.write) writePages(readRecord() as Results)
  }
  if (isSmoke) return
  for (const name of Object.keys(PARTS)) console.log(`\n${PARTS[name]!(record, 'en')}`)
  for (const name of names) console.log(`\n${besideBefore(record[name]!)}`)
}
