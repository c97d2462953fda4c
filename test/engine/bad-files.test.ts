import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { openEngine } from '../../src/engine/open.ts'

let folder: string
let file: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'xqueue-bad-'))
  file = join(folder, 'x.db')
})
afterEach(() => rmSync(folder, { recursive: true }))

it('refuses a file that is no database', async () => {
  writeFileSync(file, 'not a database, and long enough to be looked at as one'.repeat(100))
  await expect(openEngine(`sqlite:${file}`)).rejects.toMatchObject({ code: 'engine_unusable', message: /corrupt/ })
})

it("refuses another program's database", async () => {
  const db = new DatabaseSync(file)
  db.exec('CREATE TABLE theirs (a)')
  db.close()
  await expect(openEngine(`sqlite:${file}`)).rejects.toMatchObject({
    message: expect.stringContaining('another program'),
  })
})

it('refuses a file of a newer version', async () => {
  await (await openEngine(`sqlite:${file}`)).close()
  const db = new DatabaseSync(file)
  db.exec('PRAGMA user_version = 99')
  db.close()
  await expect(openEngine(`sqlite:${file}`)).rejects.toMatchObject({ message: expect.stringContaining('newer XQueue') })
})

it('says what is wrong with a folder that does not exist, and with a folder in place of the file', async () => {
  for (const path of [join(folder, 'none', 'x.db'), folder]) {
    await expect(openEngine(`sqlite:${path}`)).rejects.toMatchObject({
      code: 'engine_unavailable',
      message: expect.stringContaining('cannot be opened'),
    })
  }
})

it('fails a submission while another process holds the lock, and accepts the next one after', async () => {
  const engine = await openEngine(`sqlite:${file}`)
  await engine.configureType('t', { declared: true })
  const db = new DatabaseSync(file)
  db.exec('BEGIN IMMEDIATE')
  await expect(engine.configureType('t', { paused: true })).rejects.toMatchObject({ code: 'engine_unavailable' })
  db.exec('ROLLBACK')
  expect((await engine.configureType('t', { paused: true })).paused).toBe(true)
  db.close()
  await engine.close()
})

it('keeps everything when it is opened again, also from a copy of a closed file', async () => {
  const engine = await openEngine(`sqlite:${file}`)
  await engine.configureType('t', { declared: true, maxConcurrency: 4 })
  await engine.close()
  copyFileSync(file, `${file}.copy`)
  const copy = await openEngine(`sqlite:${file}.copy`)
  expect((await copy.types({ names: ['t'] }))[0]).toMatchObject({ declared: true, maxConcurrency: 4 })
  await copy.close()
})

it('refuses engines and parameters that it does not have', async () => {
  for (const url of [
    'nonsense',
    'redis://localhost',
    'sqlite:',
    'sqlite:x.db?sync=off',
    'sqlite:x.db?synchronous=off',
  ]) {
    await expect(openEngine(url)).rejects.toMatchObject({ code: 'engine_unusable' })
  }
})
