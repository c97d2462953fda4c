import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { beforeEach, expect, it } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import { completeSpec } from '../../src/task/task.ts'
import { temporaryFolder } from '../fixtures/folder.ts'

const WORKER = { id: 'w1', host: 'h', pid: 1, types: ['t'], concurrency: 9, startedAt: 0 }
const NOW = 1_700_000_010_000

let folder: string
let file: string
beforeEach(() => {
  folder = temporaryFolder()
  file = join(folder, 'x.db')
  const db = new DatabaseSync(file)
  db.exec(readFileSync(join(import.meta.dirname, 'sqlite-version-1.sql'), 'utf8'))
  db.close()
})

it('goes on with the tasks of a file of version 1, and takes groups and rates beside them', async () => {
  let now = NOW
  const queue = await openQueue(`sqlite:${file}`, { clock: () => now })
  const claim = async () => {
    const { leases } = await queue.turn({ worker: WORKER, want: 9 })
    return leases.map(({ task }) => [task.id, task.group])
  }
  expect((await queue.types({ names: ['t'], holders: true }))[0]).toMatchObject({
    maxConcurrency: 4,
    groupConcurrency: null,
    rate: null,
    pending: 3,
    holders: [{ taskId: 'held', group: null }],
  })
  expect((await queue.get(['done', 'low'])).map((task) => task && [task.status, task.result, task.payload])).toEqual([
    ['success', { ok: true }, {}],
    ['pending', null, { n: 3 }],
  ])
  const known = completeSpec({ type: 't', priority: 5, queueTimeoutMs: 0, processTimeoutMs: 0, idempotencyKey: 'k' })
  expect((await queue.submit([known]))[0]).toMatchObject({ existing: true, task: { id: 'high' } })
  const [grouped] = await queue.submit([completeSpec({ type: 't', group: 'a', priority: 1 })])
  expect(await claim()).toEqual([
    ['high', null],
    [grouped!.task.id, 'a'],
    ['low', null],
  ])
  now += 50_000
  await queue.sweep(100)
  await queue.configureType('t', { rate: { max: 1, perMs: 1_000 } })
  expect(await claim()).toEqual([['late', null]])
  await queue.close()
})

it('settles a lease that was handed out before tokens had a secret', async () => {
  const queue = await openQueue(`sqlite:${file}`, { clock: () => NOW })
  const { startedAt, deliveries } = (await queue.get(['held']))[0]!
  expect([startedAt, deliveries]).toEqual([1_700_000_000_000, 1])
  const settle = (lease: string) =>
    queue.turn({ worker: WORKER, want: 0, outcomes: [{ lease, outcome: { kind: 'success', result: 1 } }] })
  expect((await settle('held.1')).settled).toEqual([{ accepted: true, status: 'success' }])
  expect((await settle('held.1')).settled).toEqual([{ accepted: false, status: null }])
  await queue.close()
})

it('changes a file of version 1 wholly or not at all, and only once', async () => {
  const db = new DatabaseSync(file)
  db.exec('CREATE TABLE rate_log (in_the_way)')
  await expect(openQueue(`sqlite:${file}`)).rejects.toThrow(/rate_log/)
  expect(db.prepare('PRAGMA user_version').get()).toEqual({ user_version: 1 })
  expect(db.prepare("SELECT count(*) AS n FROM pragma_table_info('tasks') WHERE name = 'task_group'").get()).toEqual({
    n: 0,
  })
  db.exec('DROP TABLE rate_log')
  db.close()
  for (let time = 0; time < 2; time++) {
    const queue = await openQueue(`sqlite:${file}`, { clock: () => NOW })
    expect((await queue.stats()).counts).toMatchObject({ pending: 3, processing: 1, success: 1 })
    await queue.close()
  }
})

it('takes keys into a file of version 2, and leaves its tasks as they are', async () => {
  const db = new DatabaseSync(file)
  db.exec(readFileSync(join(import.meta.dirname, '../../src/store/sqlite/sql/migrate-2.sql'), 'utf8'))
  db.exec('PRAGMA user_version = 2')
  db.close()
  const queue = await openQueue(`sqlite:${file}`, { clock: () => NOW })
  const { keys, secret } = await queue.keys()
  expect([keys, secret.length]).toEqual([[], 43])
  expect((await queue.stats()).counts).toMatchObject({ pending: 3, processing: 1, success: 1 })
  await queue.close()
  const again = await openQueue(`sqlite:${file}`, { clock: () => NOW })
  expect((await again.keys()).secret).toBe(secret)
  await again.close()
})

it('takes schedules into a file of version 3', async () => {
  const db = new DatabaseSync(file)
  for (const version of [2, 3]) {
    db.exec(readFileSync(join(import.meta.dirname, `../../src/store/sqlite/sql/migrate-${version}.sql`), 'utf8'))
  }
  db.exec('PRAGMA user_version = 3')
  db.close()
  const queue = await openQueue(`sqlite:${file}`, { clock: () => NOW })
  expect(await queue.schedules()).toEqual([])
  const task = { type: 't', payload: {}, priority: 0, maxRetry: 3, queueTimeoutMs: 0, processTimeoutMs: 0 }
  const timing = { everyMs: 60_000 }
  const more = { catchUp: 'one', overlap: 'allow', paused: false } as const
  await queue.schedules({ add: { id: 's', task: { ...task, tags: {}, group: null }, timing, ...more } })
  await queue.close()
  const again = await openQueue(`sqlite:${file}`, { clock: () => NOW })
  expect(await again.schedules()).toMatchObject([{ id: 's', nextAt: 1_700_000_040_000 }])
  expect((await again.stats()).counts).toMatchObject({ pending: 3, processing: 1, success: 1 })
  await again.close()
})
