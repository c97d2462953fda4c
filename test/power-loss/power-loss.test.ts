import { once } from 'node:events'
import { appendFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { temporaryFolder } from '../fixtures/folder.ts'
import { freePort } from '../fixtures/ports.ts'
import { redisCli, spawnRedis } from '../fixtures/redis.ts'
import { cutPower, type Findings } from './cuts.ts'
import type { Recording } from './recording.ts'
import { open, recordRedis } from './redis.ts'
import { recordSqlite } from './sqlite.ts'

/** The short form; `npm run test:power-loss` has the long one. */
const SEED = Number(process.env.TEST_SEED ?? Date.now() % 1_000_000)
const CALLS = 300

function expectKept(what: string, { kills, reconciled }: Recording, { violations, ...figures }: Findings): void {
  console.info(`${what}, seed ${SEED}: ${JSON.stringify(figures)}`)
  expect(violations).toEqual([])
  expect(figures.promises).toBeGreaterThan(200)
  // More would be changes that the journal does not see.
  expect(reconciled).toBeLessThanOrEqual(kills)
}

describe('SQLite', () => {
  let recorded: Recording
  beforeAll(async () => {
    recorded = await recordSqlite({ seed: SEED, calls: CALLS })
  })

  it('keeps through a loss of power all that an answer has shown', async () => {
    expectKept('SQLite', recorded, await cutPower(recorded, 30, SEED))
  })

  it('is found to lose tasks on a disk that does not sync', async () => {
    const { violations } = await cutPower(recorded, 10, SEED, true)
    expect(violations.join('\n')).toMatch(/was accepted and is lost/)
  })

  it('is found to lose tasks if the program does not wait for the disk', async () => {
    const fault = join(import.meta.dirname, 'no-sync.mjs')
    const { violations } = await cutPower(await recordSqlite({ seed: SEED, calls: 100, isBrief: true, fault }), 8, SEED)
    expect(violations.join('\n')).toMatch(/was accepted and is lost/)
  })

  it('returns with synchronous=normal to an earlier moment, in which everything fits', async () => {
    const normal = await recordSqlite({ seed: SEED, calls: CALLS / 2, synchronous: 'normal', isBrief: true })
    expect((await cutPower(normal, 15, SEED)).violations).toEqual([])
  })
})

describe('Redis', () => {
  it('keeps through a loss of power all that an answer has shown, with appendfsync always', async () => {
    const recorded = await recordRedis({ seed: SEED, calls: CALLS, fsync: 'always' })
    expectKept('Redis, always', recorded, await cutPower(recorded, 8, SEED))
  })

  it('opens with the documented repair after a loss of power in a rewrite of the append-only file', async () => {
    const folder = temporaryFolder()
    const redis = await spawnRedis({ port: await freePort(), folder, flags: ['--appendonly', 'yes'] })
    redis.kill('SIGKILL')
    await once(redis, 'exit')
    const file = (name: string) => join(folder, 'appendonlydir', name)
    const [first, second] = [1, 2].map((seq) => `appendonly.aof.${seq}.incr.aof`) as [string, string]
    const set = (name: string) => `*3\r\n$3\r\nSET\r\n$1\r\n${name}\r\n$1\r\n1\r\n`
    // The first file has lost its end, and the second one, which the rewrite began, has not.
    appendFileSync(file(first), set('a') + set('b').slice(0, -3))
    writeFileSync(file(second), set('c'))
    appendFileSync(file('appendonly.aof.manifest'), `file ${second} seq 2 type i\n`)
    const { port, isRepaired, close } = await open(folder)
    expect(isRepaired).toBe(true)
    expect([redisCli(port, 'EXISTS', 'a'), redisCli(port, 'EXISTS', 'b', 'c')]).toEqual(['1', '0'])
    await close()
  })

  it('returns with appendfsync everysec to a moment of the last two seconds, in which everything fits', async () => {
    const recorded = await recordRedis({ seed: SEED, calls: CALLS / 2, fsync: 'everysec' })
    expect((await cutPower(recorded, 8, SEED)).violations).toEqual([])
    // By the promise of `always`, the same recording has losses.
    expect((await cutPower({ ...recorded, mayLoseMs: 0 }, 8, SEED)).violations).not.toEqual([])
  })
})
