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

it('continues with the tasks of a file of version 1, and supports groups and rates with them', async () => {
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

it('upgrades a file of version 1 completely or not at all, and only once', async () => {
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

it('adds keys to a file of version 2, and keeps its tasks', async () => {
  const db = new DatabaseSync(file)
  db.exec(readFileSync(join(import.meta.dirname, '../../src/store/sqlite/schema/migrate-2.sql'), 'utf8'))
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

it('adds schedules to a file of version 3', async () => {
  const db = new DatabaseSync(file)
  for (const version of [2, 3]) {
    db.exec(readFileSync(join(import.meta.dirname, `../../src/store/sqlite/schema/migrate-${version}.sql`), 'utf8'))
  }
  db.exec('PRAGMA user_version = 3')
  db.close()
  const queue = await openQueue(`sqlite:${file}`, { clock: () => NOW })
  expect(await queue.schedules()).toEqual([])
  const task = { type: 't', payload: {}, priority: 0, maxRetry: 3, queueTimeoutMs: 0, processTimeoutMs: 0 }
  const timing = { everyMs: 60_000 }
  const more = { catchUp: 'one', overlap: 'allow', paused: false } as const
  await queue.schedules({ add: { id: 's', task: { ...task, tags: {}, group: null, uses: {} }, timing, ...more } })
  await queue.close()
  const again = await openQueue(`sqlite:${file}`, { clock: () => NOW })
  expect(await again.schedules()).toMatchObject([{ id: 's', nextAt: 1_700_000_040_000 }])
  expect((await again.stats()).counts).toMatchObject({ pending: 3, processing: 1, success: 1 })
  await again.close()
})

it('converts schedules, keys, the secret and readers of version 12 to documents', async () => {
  const db = new DatabaseSync(file)
  for (let version = 2; version <= 12; version++) {
    db.exec(readFileSync(join(import.meta.dirname, `../../src/store/sqlite/schema/migrate-${version}.sql`), 'utf8'))
  }
  db.exec(
    'CREATE TABLE readers (name TEXT PRIMARY KEY, owner TEXT, expires_at INTEGER NOT NULL, position TEXT NOT NULL)',
  )
  const task = { type: 't', payload: { text: 'é' }, priority: 0, maxRetry: 3, queueTimeoutMs: 0, processTimeoutMs: 0 }
  const spec = { id: 's', task: { ...task, tags: {}, group: null }, timing: { everyMs: 60_000 } }
  const rest = { catchUp: 'one', overlap: 'skip', paused: false, createdAt: 1, updatedAt: 2 }
  const state = { nextAt: NOW + 60_000, lastAt: NOW - 60_000, lastTaskId: 'held' }
  const paused = { ...spec, ...rest, id: 'paused', paused: true, nextAt: null, lastAt: null, lastTaskId: null }
  const insert = db.prepare('INSERT INTO schedules (id, body, next_at, last_at, last_task_id) VALUES (?, ?, ?, ?, ?)')
  insert.run('s', JSON.stringify({ ...spec, ...rest }), state.nextAt, state.lastAt, state.lastTaskId)
  insert.run('paused', JSON.stringify({ ...spec, ...rest, id: 'paused', paused: true }), null, null, null)
  const key = {
    id: 'k',
    name: 'n',
    hash: 'h',
    scopes: ['read'],
    rate: null,
    createdAt: 5,
    expiresAt: null,
    session: null,
  }
  const session = { ...key, id: 'session', createdAt: 6, session: { of: 'k' } }
  const insertKey = db.prepare('INSERT INTO keys (id, created_at, expires_at, session_of, body) VALUES (?, ?, ?, ?, ?)')
  insertKey.run('k', 5, null, null, JSON.stringify(key))
  insertKey.run('session', 6, null, 'k', JSON.stringify(session))
  db.exec(`INSERT INTO secret (only_one, value) VALUES (1, '${'s'.repeat(43)}')`)
  db.exec(
    `INSERT INTO readers VALUES ('free', NULL, 0, '0'), ('held', 'me', ${NOW + 1_000}, '0'); PRAGMA user_version = 12`,
  )
  db.close()
  let now = NOW
  const queue = await openQueue(`sqlite:${file}`, { clock: () => now })
  expect(await queue.schedules()).toEqual([paused, { ...spec, ...rest, ...state }])
  expect(await queue.keys()).toEqual({ keys: [key, session], secret: 's'.repeat(43) })
  const read = (name: string, owner: string) =>
    queue.events({ after: null, max: 1, reader: { name, owner, leaseMs: 1_000 } })
  expect((await read('held', 'other')).held).toBe(false)
  expect((await read('held', 'me')).held).toBe(true)
  expect((await read('free', 'other')).held).toBe(true)
  now = NOW + 60_000
  await queue.sweep(100)
  // Its last task has not ended.
  expect((await queue.schedules()).find(({ id }) => id === 's')).toMatchObject({ ...state, nextAt: 1_700_000_100_000 })
  await queue.close()
})

it('keeps the turns of the groups in a file of version 13, beside groups with one waiting task', async () => {
  const db = new DatabaseSync(file)
  for (let version = 2; version <= 13; version++) {
    db.exec(readFileSync(join(import.meta.dirname, `../../src/store/sqlite/schema/migrate-${version}.sql`), 'utf8'))
  }
  const insert = db.prepare(`INSERT INTO tasks (seq, id, type, status, priority, max_retry, queue_timeout_ms,
    process_timeout_ms, created_at, run_at, updated_at, task_group)
    VALUES (?, ?, 'u', 'pending', 0, 3, 0, 0, ${NOW}, ${NOW}, ${NOW}, ?)`)
  const waiting = ['a1', 'b1', 'b2', 'c1']
  for (const [index, id] of waiting.entries()) {
    insert.run(100 + index, id, id[0]!)
    db.exec(`INSERT INTO payloads (seq, payload) VALUES (${100 + index}, '{}')`)
  }
  // Group a was served last; b and c were not served.
  db.exec(`INSERT INTO ring (type, task_group, priority, state, served, since, since_seq) VALUES
    ('u', 'a', 0, 'ready', 7, 0, 0), ('u', 'b', 0, 'ready', 0, ${NOW}, 101), ('u', 'c', 0, 'ready', 0, ${NOW}, 103);
    INSERT INTO counts (type, status, n) VALUES ('u', 'pending', 4);
    INSERT INTO types (type, declared, last_seen, retry_delays_ms, retry_jitter) VALUES ('u', 1, ${NOW}, '[1]', 0);
    PRAGMA user_version = 13`)
  db.close()
  const queue = await openQueue(`sqlite:${file}`, { clock: () => NOW })
  const [fresh] = await queue.submit([completeSpec({ type: 'u', group: 'd' })])
  const { leases } = await queue.turn({ worker: { ...WORKER, types: ['u'] }, want: 9 })
  expect(leases.map(({ task }) => task.id)).toEqual(['b1', 'c1', fresh!.task.id, 'a1', 'b2'])
  await queue.close()
})
