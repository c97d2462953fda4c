import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { Worker } from 'node:worker_threads'
import { expect, it } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { removeAtExit } from '../fixtures/processes.ts'

const TOGETHER = 2
const FILES = 100
const OPEN = new URL('../../src/queue/open.ts', import.meta.url).href
/** Opens each file in the moment in which all others do. */
const CODE = `
  import { parentPort, workerData } from 'node:worker_threads'
  const { openQueue } = await import(workerData.open)
  const arrived = new Int32Array(workerData.arrived)
  const failures = []
  for (const [index, file] of workerData.files.entries()) {
    Atomics.add(arrived, index, 1)
    while (Atomics.load(arrived, index) < workerData.together) {}
    await openQueue('sqlite:' + file).then((engine) => engine.close(), (error) => failures.push(error.message))
  }
  parentPort.postMessage(failures)
`

/** Holds the lock for a moment. */
const HOLD = `
  import { DatabaseSync } from 'node:sqlite'
  import { parentPort, workerData } from 'node:worker_threads'
  const db = new DatabaseSync(workerData)
  db.exec('BEGIN IMMEDIATE')
  parentPort.postMessage('begun')
  setTimeout(() => db.exec('COMMIT'), 200)
`
const moduleOf = (code: string) => new URL(`data:text/javascript,${encodeURIComponent(code)}`)

it('waits for the lock of a file without a write-ahead log, but not for ever', async () => {
  const file = join(temporaryFolder(), 'x.db')
  await (await openQueue(`sqlite:${file}`)).close()
  const db = new DatabaseSync(file)
  // As after some ways to copy a file. SQLite does not wait for the lock while it enables the log.
  db.exec('PRAGMA journal_mode = DELETE')
  db.exec('BEGIN IMMEDIATE')
  const opening = openQueue(`sqlite:${file}`, { openWaitMs: 20 })
  await expect(opening).rejects.toMatchObject({ code: 'engine_unavailable', message: expect.stringMatching(/locked/) })
  db.close()
  await once(new Worker(moduleOf(HOLD), { workerData: file }), 'message')
  await (await openQueue(`sqlite:${file}`)).close()
})

it('many processes open a new file at once', async () => {
  const folder = removeAtExit(mkdtempSync(join(tmpdir(), 'xqueue-together-')))
  const files = Array.from({ length: FILES }, (_, index) => join(folder, `${index}.db`))
  const workerData = { open: OPEN, files, together: TOGETHER, arrived: new SharedArrayBuffer(4 * FILES) }
  const failures = await Promise.all(
    Array.from({ length: TOGETHER }, async () => {
      const { promise, resolve, reject } = Promise.withResolvers<string[]>()
      new Worker(moduleOf(CODE), { workerData }).once('message', resolve).once('error', reject)
      return promise
    }),
  )
  expect(failures.flat()).toEqual([])
  rmSync(folder, { recursive: true })
})
