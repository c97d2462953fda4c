import { type ChildProcess, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, realpathSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { openQueue } from '../../src/queue/open.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { freePort } from '../fixtures/ports.ts'
import { prepareProgram } from '../fixtures/program.ts'
import { redisCli, spawnRedis } from '../fixtures/redis.ts'
import { SeededRandom } from '../simulation/random.ts'
import { type Loss, reconcile } from './disk.ts'
import { recording } from './disk-shim.ts'
import { readJournal } from './journal.ts'
import { HANDLERS, Load } from './load.ts'
import type { Opened, Recording } from './recording.ts'

/** Redis syncs every second, and waits for a sync that is under way for another second. */
const EVERYSEC_LOSES_MS = 2_000

/**
 * The append-only file has no checksums: of sectors that are missing within it, Redis finds only some. So a file system
 * has to keep appended data in order.
 */
const IN_ORDER: readonly Loss[] = ['none', 'all', 'prefix']

export interface RedisRecordOptions {
  seed: number
  calls: number
  fsync: 'always' | 'everysec'
}

/** A server on a Redis that is killed, started again, and rewrites its append-only file. */
export async function recordRedis({ seed, calls, fsync }: RedisRecordOptions): Promise<Recording> {
  const place = realpathSync(temporaryFolder())
  const [folder, journal] = [join(place, 'data'), join(place, 'journal')]
  mkdirSync(folder)
  writeFileSync(join(place, 'handlers.mjs'), HANDLERS)
  const port = await freePort()
  const flags = ['--appendonly', 'yes', '--appendfsync', fsync]
  const start = () => spawnRedis({ port, folder, flags, before: recording(folder, journal) })
  let redis = await start()
  let reconciled = 0
  const kill = async () => {
    await end(redis)
    reconciled += reconcile(folder, journal)
  }
  const store = `redis://127.0.0.1:${port}?wait_ms=1000`
  const server = await prepareProgram({ store, handlers: join(place, 'handlers.mjs') })
  const load = new Load([server], journal, new SeededRandom(seed))
  const part = Math.ceil(calls / 3)
  await server.start()
  await load.declare()
  await load.run(2 * part, kill)
  redis = await start()
  // What it had written and not synced when it was killed is there again, and is synced with the next write only.
  redisCli(port, 'SET', 'next-write', '1')
  await load.declare()
  await load.run(part, async () => {
    redisCli(port, 'BGREWRITEAOF')
  })
  await kill()
  await server.kill()
  const mayLoseMs = fsync === 'always' ? 0 : EVERYSEC_LOSES_MS
  return { folder, entries: readJournal(journal), kills: 2, reconciled, mayLoseMs, losses: IN_ORDER, open }
}

/** Repairs its files as docs/operations.md says, if Redis refuses to start because of them. */
export async function open(folder: string): Promise<Opened & { port: number }> {
  const port = await freePort()
  const start = () => spawnRedis({ port, folder, flags: ['--appendonly', 'yes'] })
  let isRepaired = false
  const redis = await start().catch(({ message }: Error) => {
    const manifest = join(folder, 'appendonlydir/appendonly.aof.manifest')
    if (message.includes('redis-check-aof --fix'))
      spawnSync('redis-check-aof', ['--fix', manifest], { input: 'y\ny\n' })
    else if (message.includes('the truncated file is not the last file')) leaveOut(manifest, message)
    else throw new Error(message)
    isRepaired = true
    return start()
  })
  const queue = await openQueue(`redis://127.0.0.1:${port}`)
  const close = async () => {
    await queue.close()
    await end(redis)
  }
  return { queue, port, complaints: [], isRepaired, close }
}

/**
 * The power was lost during a rewrite, and an earlier file has lost its end, which Redis has deleted. The files that
 * follow it are left out; at its next start, Redis would take them with the gap.
 */
function leaveOut(manifest: string, message: string): void {
  const [, name] = /Truncating the AOF (\S+) at offset/.exec(message)!
  const lines = readFileSync(manifest, 'utf8').split('\n')
  const last = lines.findIndex((line) => line.includes(` ${name} `))
  writeFileSync(manifest, `${lines.slice(0, last + 1).join('\n')}\n`)
}

async function end(redis: ChildProcess): Promise<void> {
  redis.kill('SIGKILL')
  if (redis.exitCode === null && redis.signalCode === null) await once(redis, 'exit')
}
