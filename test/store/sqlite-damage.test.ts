import { execSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  cpSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import { refuseDamagedLog } from '../../src/store/sqlite/database/log-check.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { runXQueue } from '../fixtures/program.ts'
import { openTestQueue } from '../fixtures/server.ts'

/** Bytes that change while no process runs: the start says so, and no task is missing without a word. */

const HEADER = 32
const FRAME = 24 + 4_096

let killed: string
let tasks: number
let folder: string
let file: string
let log: string

beforeAll(async () => {
  killed = temporaryFolder()
  const child = spawn(process.execPath, [
    join(import.meta.dirname, 'damage-child.ts'),
    `sqlite:${join(killed, 'x.db')}`,
  ])
  const [count] = await once(child.stdout, 'data')
  child.kill('SIGKILL')
  await once(child, 'close')
  tasks = Number(count)
})

beforeEach(() => {
  folder = temporaryFolder()
  cpSync(killed, folder, { recursive: true })
  file = join(folder, 'x.db')
  log = `${file}-wal`
})

function flip(path: string, at: number): void {
  const byte = readFileSync(path)[at]!
  writeSync(openSync(path, 'r+'), Buffer.from([byte ^ 4]), 0, 1, at)
}
const frames = () => (statSync(log).size - HEADER) / FRAME
/** A byte of a frame; negative numbers count from the last one. */
const inFrame = (number: number, byte: number) => HEADER + FRAME * (number < 0 ? frames() + number : number) + byte
const refusal = () =>
  openQueue(`sqlite:${file}`).then(
    () => 'opened',
    (error) => `${error.code}: ${error.message}`,
  )
/** The finding of `xqueue doctor` about the data. */
function doctor(): object {
  const { stdout } = runXQueue(['doctor', '--json', '--engine', `sqlite:${file}`, '--port', '0'])
  return JSON.parse(stdout).find(({ check }: { check: string }) => check === 'data')
}
const contents = () => readdirSync(folder).map((name) => [name, readFileSync(join(folder, name)).toString('base64')])

it('opens what a killed process left, with each task', async () => {
  const queue = await openTestQueue(`sqlite:${file}`)
  expect((await queue.stats()).counts.pending).toBe(tasks)
})

describe('refuses a database whose log', () => {
  const cases: [string, () => void][] = [
    ['has a changed bit in a page', () => flip(log, inFrame(20, 1_000))],
    ['has a changed bit in the last page', () => flip(log, inFrame(-1, 1_000))],
    ['has a changed bit in the number of a page', () => flip(log, inFrame(20, 2))],
    ['has a changed bit in the salt of a frame', () => flip(log, inFrame(20, 9))],
    ['has a changed bit in the checksum of a frame', () => flip(log, inFrame(20, 20))],
    ['is cut between two frames', () => truncateSync(log, inFrame(-30, 0))],
    ['is cut within a frame', () => truncateSync(log, inFrame(-30, 77))],
    ['is cut within its header', () => truncateSync(log, 10)],
    ['is empty', () => truncateSync(log, 0)],
    ['is gone', () => rmSync(log)],
    ['has a changed bit in its header', () => flip(log, 17)],
    [
      'has a changed bit in a page, when its index is gone',
      () => {
        flip(log, inFrame(20, 1_000))
        rmSync(`${file}-shm`)
      },
    ],
  ]
  it.each(cases)('%s, and changes nothing', async (_, damage) => {
    damage()
    const before = contents()
    const message = await refusal()
    expect(message).toMatch(
      /^engine_unusable: .*x\.db-wal .*restore the database from a backup, or lose these changes: /,
    )
    expect(contents()).toEqual(before)
    // The second remedy of the message leaves a database that opens.
    execSync(`set -e; ${/lose these changes: (.*)$/.exec(message)![1]!}`)
    const queue = await openTestQueue(`sqlite:${file}`)
    expect((await queue.stats()).counts.pending).toBeLessThan(tasks)
  })
})

it('loses only what is behind the damage if the changes are given up', async () => {
  const before = frames()
  flip(log, inFrame(-1, 1_000))
  execSync(`set -e; ${/lose these changes: (.*)$/.exec(await refusal())![1]!}`)
  expect(frames()).toBeLessThan(before)
  expect(frames()).toBeGreaterThan(before / 2)
  expect(frames()).toBe(Math.floor(frames()))
})

it('finds nothing wrong with the log of a process that writes it, begins it again, and empties it', async () => {
  const script = join(import.meta.dirname, 'log-writer.ts')
  const child = spawn(process.execPath, [script, file])
  await once(child.stdout, 'data')
  for (let look = 0; look < 30; look++) {
    refuseDamagedLog(file)
    await new Promise((resolve) => setImmediate(resolve))
  }
  expect(child.exitCode).toBe(null)
  child.kill('SIGKILL')
  await once(child, 'close')
  refuseDamagedLog(file)
})

it('opens a log with invalid frames if the machine has been started again: a loss of power leaves them', async () => {
  flip(log, inFrame(-20, 1_000))
  writeFileSync(`${file}-boot`, 'an earlier start')
  const queue = await openTestQueue(`sqlite:${file}`)
  const { pending } = (await queue.stats()).counts
  expect(pending).toBeGreaterThan(0)
  expect(pending).toBeLessThan(tasks)
})

it.each<[string, () => void]>([
  ['empty', () => truncateSync(file, 0)],
  ['gone', () => rmSync(file)],
])('refuses a database that is %s and has a log', async (_, damage) => {
  damage()
  expect(await refusal()).toMatch(/^engine_unusable: .*x\.db is missing or empty, and its log .*x\.db-wal is not: /)
  expect(statSync(log).size).toBeGreaterThan(HEADER)
})

describe('a database that was closed', () => {
  beforeEach(async () => {
    await (await openQueue(`sqlite:${file}`)).close()
    expect(existsSync(log)).toBe(false)
  })

  it.each([1, 100, 4_095, 4_096, 40_960])('is refused if its last %i bytes are gone', async (bytes) => {
    truncateSync(file, statSync(file).size - bytes)
    expect(await refusal()).toMatch(/^engine_unusable: .*x\.db is (?:corrupt|cut) .*restore it from a backup/)
    expect(doctor()).toMatchObject({ ok: false })
  })

  it('is found to be damaged by the doctor if an index differs from its table', async () => {
    const queue = await openQueue(`sqlite:${file}`)
    const { tasks: newest } = await queue.list({ limit: 1 })
    await queue.close()
    expect(doctor()).toMatchObject({ ok: true, detail: 'tables and indexes agree' })
    // In the table or its index; in the text of an event, a quote is before it.
    flip(file, new RegExp(`(?<!")${newest[0]!.id}`).exec(readFileSync(file, 'latin1'))!.index + 30)
    const detail = expect.stringMatching(/x\.db is damaged \(.*\): restore it from a backup/)
    expect(doctor()).toMatchObject({ ok: false, detail })
  })

  it('is called corrupt by an answer that needs a value which cannot be read', async () => {
    flip(file, readFileSync(file).indexOf('{"n":'))
    const queue = await openTestQueue(`sqlite:${file}`)
    const message = /x\.db is corrupt .*restore it from a backup/
    await expect(queue.list({ limit: 1_000 })).rejects.toMatchObject({ code: 'engine_unusable', message })
  })

  it('is refused if its header has changed', async () => {
    flip(file, 3)
    expect(await refusal()).toMatch(/^engine_unusable: .*x\.db is corrupt or not a SQLite database/)
  })
})
