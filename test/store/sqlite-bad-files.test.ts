import { spawnSync } from 'node:child_process'
import { chmodSync, copyFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { beforeEach, expect, it } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { main } from '../fixtures/root.ts'
import { openTestQueue } from '../fixtures/server.ts'

let folder: string
let file: string
beforeEach(() => {
  folder = temporaryFolder()
  file = join(folder, 'x.db')
})

it('refuses a file that is not a database', async () => {
  writeFileSync(file, 'not a database, and long enough to be looked at as one'.repeat(100))
  await expect(openQueue(`sqlite:${file}`)).rejects.toMatchObject({ code: 'engine_unusable', message: /corrupt/ })
})

it("refuses another program's database", async () => {
  const db = new DatabaseSync(file)
  db.exec('CREATE TABLE theirs (a)')
  db.close()
  await expect(openQueue(`sqlite:${file}`)).rejects.toMatchObject({
    message: expect.stringContaining('another program'),
  })
})

it('refuses a file of a newer version', async () => {
  await (await openQueue(`sqlite:${file}`)).close()
  const db = new DatabaseSync(file)
  db.exec('PRAGMA user_version = 99')
  db.close()
  await expect(openQueue(`sqlite:${file}`)).rejects.toMatchObject({ message: expect.stringContaining('newer XQueue') })
})

it('reports a missing folder, and a folder in place of the file', async () => {
  for (const path of [join(folder, 'none', 'x.db'), folder]) {
    await expect(openQueue(`sqlite:${path}`)).rejects.toMatchObject({
      code: 'engine_unavailable',
      message: expect.stringContaining('cannot be opened'),
    })
  }
})

it('fails a submission while another process holds the lock, and accepts the next one afterwards', async () => {
  const queue = await openQueue(`sqlite:${file}`)
  await queue.configureType('t', { declared: true })
  const db = new DatabaseSync(file)
  db.exec('BEGIN IMMEDIATE')
  await expect(queue.configureType('t', { paused: true })).rejects.toMatchObject({ code: 'engine_unavailable' })
  db.exec('ROLLBACK')
  expect((await queue.configureType('t', { paused: true })).paused).toBe(true)
  db.close()
  await queue.close()
})

it('does not call a file corrupt that another program has changed', async () => {
  const queue = await openTestQueue(`sqlite:${file}`)
  const db = new DatabaseSync(file)
  db.exec('DROP TABLE limits')
  db.close()
  await expect(queue.configureLimit('gpu', { max: 1 })).rejects.toMatchObject({
    code: 'engine_unavailable',
    message: expect.stringMatching(/x\.db: no such table: limits/),
  })
})

it('keeps everything after it is opened again, also from a copy of a closed file', async () => {
  const queue = await openQueue(`sqlite:${file}`)
  await queue.configureType('t', { declared: true, maxConcurrency: 4 })
  await queue.close()
  copyFileSync(file, `${file}.copy`)
  const copy = await openQueue(`sqlite:${file}.copy`)
  expect((await copy.types({ names: ['t'] }))[0]).toMatchObject({ declared: true, maxConcurrency: 4 })
  await copy.close()
})

it('refuses unknown engines and parameters', async () => {
  for (const url of [
    'nonsense',
    'kafka://localhost',
    'redis://localhost/db',
    'redis://a,b',
    'redis://localhost?prefix=a:b',
    'sqlite:',
    'sqlite:x.db?sync=off',
    'sqlite:x.db?synchronous=off',
  ]) {
    await expect(openQueue(url)).rejects.toMatchObject({ code: 'engine_unusable' })
  }
})

it('refuses whole calls while the disk is full, and keeps and reads accepted tasks', async () => {
  // No file of this process may grow beyond 4 MiB: a write that fails, as on a disk that is full.
  const script = `ulimit -f 4096; exec "${process.execPath}" "${join(import.meta.dirname, 'full-child.ts')}" "${file}"`
  const { stdout, stderr } = spawnSync('bash', ['-c', script], { encoding: 'utf8' })
  const { code, message, accepted, readable } = JSON.parse(stdout || `"${stderr}"`)
  expect([code, readable]).toEqual(['engine_unavailable', true])
  expect(message).toMatch(/check the disk|free disk space/)
  const queue = await openQueue(`sqlite:${file}`)
  expect((await queue.stats()).counts.pending).toBe(accepted.length)
  expect((await queue.get(accepted)).every((task) => task !== null)).toBe(true)
  await queue.close()
})

it('reports that a database is read-only', async () => {
  await (await openQueue(`sqlite:${file}`)).close()
  chmodSync(file, 0o444)
  chmodSync(folder, 0o555)
  // Root may write anywhere, unless it lacks the capability. It stays root, which may enter the checkout wherever it
  // is.
  const bounded = process.getuid?.() === 0 ? ['setpriv', '--bounding-set=-dac_override,-dac_read_search', '--'] : []
  const [program, ...args] = [...bounded, process.execPath, main, 'serve', '--port', '0', '--engine', `sqlite:${file}`]
  const { stderr, status } = spawnSync(program!, args, { encoding: 'utf8', cwd: tmpdir() })
  chmodSync(folder, 0o755)
  expect(stderr).toMatch(/read-only|cannot be opened/)
  expect(status).toBe(3)
})
