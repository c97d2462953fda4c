import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { expect, it } from 'vitest'
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

it('many processes open a new file at once', async () => {
  const folder = removeAtExit(mkdtempSync(join(tmpdir(), 'xqueue-together-')))
  const files = Array.from({ length: FILES }, (_, index) => join(folder, `${index}.db`))
  const workerData = { open: OPEN, files, together: TOGETHER, arrived: new SharedArrayBuffer(4 * FILES) }
  const url = new URL(`data:text/javascript,${encodeURIComponent(CODE)}`)
  const failures = await Promise.all(
    Array.from({ length: TOGETHER }, async () => {
      const { promise, resolve, reject } = Promise.withResolvers<string[]>()
      new Worker(url, { workerData }).once('message', resolve).once('error', reject)
      return promise
    }),
  )
  expect(failures.flat()).toEqual([])
  rmSync(folder, { recursive: true })
})
