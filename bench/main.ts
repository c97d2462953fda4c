import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { access } from './access.ts'
import { clients } from './clients.ts'
import { groups, limits } from './groups.ts'
import { http, pickUp } from './http.ts'
import { kafkaBesideOthers } from './kafka.ts'
import { backlog, library } from './library.ts'
import { live } from './live.ts'
import { overload } from './overload.ts'
import { page } from './page.ts'
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
    tasks: { type: 'string', default: '20000' },
    out: { type: 'string', default: join(import.meta.dirname, 'results/latest.json') },
  },
})
const rounds = Number(values.rounds)
const seconds = Number(values.seconds)
const folder = mkdtempSync(join(tmpdir(), 'xqueue-bench-redis-'))
const redis = await startRedis(folder)
const suites: Record<string, () => Promise<Row[]>> = {
  library: () => library(redis.port, rounds),
  'pick-up': () => pickUp(redis.port, seconds * 2),
  http: () => http(rounds, seconds),
  overload: () => overload(Math.min(rounds, 3), seconds * 2),
  access: () => access(redis.port, rounds, seconds),
  clients: () => clients(rounds, Number(values.tasks), values.stores?.split(',')),
  live: () => live(rounds),
  page: () => page(rounds, seconds * 2),
  backlog: () => backlog(rounds, [10_000, 100_000, 1_000_000]),
  redis: () => redisBesidePeers(redis.port, rounds, seconds * 2),
  kafka: () => kafkaBesideOthers(redis.port, Math.min(rounds, 3), seconds * 2),
  groups: () => groups(redis.port, rounds, values.stores?.split(',')),
  limits: () => limits(redis.port, rounds, values.stores?.split(',')),
  tracing: () => tracing(rounds),
  'redis-variants': () => redisVariants(redis.port, rounds),
  'redis-backlog': () => redisBacklog(Math.min(rounds, 3), [10_000, 1_000_000]),
}
const asked = positionals.length > 0 ? positionals : Object.keys(suites)
const unknown = asked.filter((name) => !suites[name])
if (unknown.length > 0) {
  console.error(`no suite ${unknown.join(', ')}: there are ${Object.keys(suites).join(', ')}`)
  process.exitCode = 2
} else {
  const rows: Row[] = []
  for (const name of asked) {
    console.error(`${name} …`)
    rows.push(...(await suites[name]!()))
  }
  console.log(table(rows))
  mkdirSync(join(values.out, '..'), { recursive: true })
  writeFileSync(values.out, `${JSON.stringify({ machine: machine(), rounds, rows }, null, 2)}\n`)
}
await redis.stop()
rmSync(folder, { recursive: true })
