import { parseArgs } from 'node:util'
import { cutPower } from './cuts.ts'
import type { Recording } from './recording.ts'
import { recordRedis } from './redis.ts'
import { recordSqlite } from './sqlite.ts'

/**
 * `npm run test:power-loss -- [--store NAME] [--seed N] [--cuts N] [--calls N]`: records what a queue writes and syncs
 * while it is used, killed and started again. Then it cuts the power at random moments, opens what a disk may have
 * kept, and compares it with the answers until then.
 */
const STORES: Record<string, (seed: number, calls: number) => Promise<Recording>> = {
  sqlite: (seed, calls) => recordSqlite({ seed, calls }),
  'sqlite-shared': (seed, calls) => recordSqlite({ seed, calls, servers: 3 }),
  'sqlite-normal': (seed, calls) => recordSqlite({ seed, calls, synchronous: 'normal' }),
  redis: (seed, calls) => recordRedis({ seed, calls, fsync: 'always' }),
  'redis-everysec': (seed, calls) => recordRedis({ seed, calls, fsync: 'everysec' }),
}

const { values } = parseArgs({
  options: {
    store: { type: 'string', default: 'sqlite' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    cuts: { type: 'string', default: '200' },
    calls: { type: 'string', default: '2000' },
    deaf: { type: 'boolean', default: false },
  },
})
const record = STORES[values.store]
if (!record) throw new Error(`--store ${values.store} must be one of ${Object.keys(STORES).join(', ')}`)
const [seed, cuts, calls] = [Number(values.seed), Number(values.cuts), Number(values.calls)]
if (!(cuts > 0 && calls > 0 && seed >= 0)) throw new Error('--seed, --cuts and --calls must be positive numbers')
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(2))

console.info(`store ${values.store}, seed ${seed}, ${calls} calls, ${cuts} cuts`)
const recorded = await record(seed, calls)
const { violations, ...figures } = await cutPower(recorded, cuts, seed, values.deaf)
const { entries, kills, reconciled } = recorded
console.info(JSON.stringify({ entries: entries.length, kills, reconciled, ...figures, violations: violations.length }))
for (const violation of violations.slice(0, 20)) console.error(`  ${violation}`)
process.exit(violations.length > 0 ? 1 : 0)
