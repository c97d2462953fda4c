import { spawnSync } from 'node:child_process'
import { mkdirSync, realpathSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { openQueue } from '../../src/queue/open.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { prepareProgram } from '../fixtures/program.ts'
import { SeededRandom } from '../simulation/random.ts'
import { LOSSES, reconcile } from './disk.ts'
import { recording } from './disk-shim.ts'
import { readJournal } from './journal.ts'
import { HANDLERS, Load } from './load.ts'
import type { Opened, Recording } from './recording.ts'

const CHECKPOINT = 'new (require("node:sqlite").DatabaseSync)(process.argv[1]).exec("PRAGMA wal_checkpoint(RESTART)")'

export interface RecordOptions {
  seed: number
  calls: number
  synchronous?: 'full' | 'normal'
  /** Processes that share the file; default 1. */
  servers?: number
  /** The servers are only killed at the end. */
  isBrief?: boolean
  /** A module that the server loads first: a fault of the program. */
  fault?: string
}

/**
 * Servers on a file that are killed, started again, stopped in order, and started again, while another process copies
 * the log into the database.
 */
export async function recordSqlite(options: RecordOptions): Promise<Recording> {
  const { seed, calls, synchronous = 'full', isBrief = false, servers: count = 1, fault } = options
  const place = realpathSync(temporaryFolder())
  const [folder, journal] = [join(place, 'data'), join(place, 'journal')]
  mkdirSync(folder)
  writeFileSync(join(place, 'handlers.mjs'), HANDLERS)
  const file = join(folder, 'x.db')
  const before = [...recording(folder, journal), ...(fault ? [`NODE_OPTIONS=--import=${fault}`] : [])]
  const program = { store: `sqlite:${file}?synchronous=${synchronous}`, handlers: join(place, 'handlers.mjs'), before }
  const servers = await Promise.all(Array.from({ length: count }, () => prepareProgram(program)))
  const load = new Load(servers, journal, new SeededRandom(seed))
  const part = Math.ceil(calls / (isBrief ? 1 : 3))
  let [kills, reconciled] = [0, 0]
  const kill = async () => {
    await Promise.all(servers.map((server) => server.kill()))
    kills += count
    reconciled += reconcile(folder, journal)
  }
  const begin = async () => {
    await Promise.all(servers.map((server) => server.start()))
    await load.declare()
  }
  await begin()
  if (!isBrief) {
    await load.run(2 * part, kill)
    await begin()
    await load.run(part, async () => {
      const [program, ...args] = [...recording(folder, journal), process.execPath, '-e', CHECKPOINT, file]
      const { status, stderr } = spawnSync(program!, args, { encoding: 'utf8' })
      if (status !== 0) throw new Error(stderr)
    })
    await Promise.all(servers.map((server) => server.stop()))
    await begin()
  }
  await load.run(part)
  await kill()
  const mayLoseMs = synchronous === 'full' ? 0 : Number.POSITIVE_INFINITY
  return { folder, entries: readJournal(journal), kills, reconciled, mayLoseMs, losses: LOSSES, open }
}

async function open(folder: string): Promise<Opened> {
  const file = join(folder, 'x.db')
  // The machine was started again.
  writeFileSync(`${file}-boot`, 'another start')
  const queue = await openQueue(`sqlite:${file}`)
  const database = new DatabaseSync(file)
  const rows = database.prepare('PRAGMA integrity_check').all() as { integrity_check: string }[]
  database.close()
  const complaints = rows.map((row) => row.integrity_check).filter((text) => text !== 'ok')
  return { queue, complaints, isRepaired: false, close: () => queue.close() }
}
