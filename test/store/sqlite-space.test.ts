import { mkdtempSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { expect, it } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import type { Queue } from '../../src/queue/queue.ts'
import { completeSpec } from '../../src/task/task.ts'
import { removeAtExit } from '../fixtures/processes.ts'

const MIB = 1_048_576
const TASKS = 8_000
const RETENTION = { ageMs: 1_000, countMax: 1_000_000 }
const spec = completeSpec({ type: 't', payload: 'x'.repeat(5_000) })
const newFile = () => join(removeAtExit(mkdtempSync(join(tmpdir(), 'xqueue-space-'))), 'x.db')

/** What the database takes once its log is carried over. */
function bytesOf(file: string): number {
  const db = new DatabaseSync(file, { readOnly: true })
  const { page_count: pages } = db.prepare('PRAGMA page_count').get() as { page_count: number }
  const { page_size: size } = db.prepare('PRAGMA page_size').get() as { page_size: number }
  db.close()
  return pages * size
}

/** A round of tasks that retention removes, all of them. */
async function round(queue: Queue, time: { now: number }): Promise<void> {
  for (let added = 0; added < TASKS; added += 1_000) await queue.submit(Array.from({ length: 1_000 }, () => spec))
  while ((await queue.cancel({ filter: { type: 't', status: 'pending' } })).results.length > 0);
  time.now += 10_000
  while ((await queue.sweep(1_000)).more);
}

it('frees the disk space of tasks that retention has removed, so that the file does not grow with each round', async () => {
  const file = newFile()
  const time = { now: Date.now() }
  const queue = await openQueue(`sqlite:${file}`, { retention: RETENTION, clock: () => time.now, eventsMax: 1_000 })
  await queue.configureType('t', { declared: true })
  const bytes: number[] = []
  for (let rounds = 0; rounds < 3; rounds++) {
    await round(queue, time)
    bytes.push(bytesOf(file))
  }
  await queue.close()
  bytes.push(statSync(file).size)
  // A round takes 44 MB.
  for (const size of bytes) expect(size).toBeLessThan(24 * MIB)
  const db = new DatabaseSync(file)
  expect(db.prepare('PRAGMA integrity_check').get()).toEqual({ integrity_check: 'ok' })
  db.close()
}, 60_000)

it('reuses the space of a file of an earlier version, and frees it after a vacuum', async () => {
  const file = newFile()
  new DatabaseSync(file).exec('PRAGMA journal_mode = WAL; CREATE TABLE x (a); DROP TABLE x')
  const time = { now: Date.now() }
  const open = () => openQueue(`sqlite:${file}`, { retention: RETENTION, clock: () => time.now, eventsMax: 1_000 })
  let queue = await open()
  await queue.configureType('t', { declared: true })
  await round(queue, time)
  const first = bytesOf(file)
  await round(queue, time)
  expect(bytesOf(file)).toBeLessThan(first * 1.2)
  expect((await queue.sweep(1_000)).more).toBe(false)
  await queue.close()
  const db = new DatabaseSync(file)
  db.exec('PRAGMA auto_vacuum = INCREMENTAL; VACUUM')
  db.close()
  queue = await open()
  await round(queue, time)
  await queue.close()
  expect(statSync(file).size).toBeLessThan(24 * MIB)
}, 60_000)
