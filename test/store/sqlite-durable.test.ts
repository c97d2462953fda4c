import { statSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { setImmediate as tick } from 'node:timers/promises'
import { afterEach, describe, expect, it } from 'vitest'
import { KeyRing } from '../../src/access/key-ring.ts'
import type { Queue } from '../../src/queue/queue.ts'
import type { XQueueError } from '../../src/task/errors.ts'
import type { ScheduleSpec } from '../../src/task/schedule.ts'
import { completeSpec } from '../../src/task/task.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { HeldSyncs } from '../fixtures/held-syncs.ts'
import { openTestQueue, serveQueue } from '../fixtures/server.ts'
import { SmallDisk } from '../fixtures/small-disk.ts'

/** An answer says that its change survives a power loss, so it comes after the sync. */

const WORKER = { id: 'w', host: 'h', pid: 1, types: ['t'], concurrency: 9, startedAt: 0 }

async function openFile(): Promise<Queue> {
  const queue = await openTestQueue(`sqlite:${join(temporaryFolder(), 'x.db')}`)
  await queue.configureType('t', { declared: true })
  return queue
}
const submit = (queue: Queue) => queue.submit([completeSpec({ type: 't' })])

const { delayMs: _, runAt: __, idempotencyKey: ___, ...task } = completeSpec({ type: 't' })
const times = { timing: { everyMs: 60_000 }, catchUp: 'one', overlap: 'allow', paused: false } as const
const schedule: ScheduleSpec = { id: 's', task, ...times }

/** Whether a call is answered before the disk has synced what it shows; `barrier` is answered without a sync. */
async function isEarly(call: () => Promise<unknown>, barrier: () => Promise<unknown>): Promise<boolean> {
  const syncs = new HeldSyncs()
  let answered = false
  const answer = call().then((value) => {
    answered = true
    return value
  })
  await syncs.asked()
  for (let times = 0; times < 3; times++) await barrier()
  const early = answered
  syncs.release()
  await answer
  return early
}

describe('a queue on a file', () => {
  it.each<[string, (queue: Queue) => Promise<unknown>]>([
    ['a submission', submit],
    ['a setting', (queue) => queue.configureType('t', { paused: true })],
    ['a limit', (queue) => queue.configureLimit('gpu', { max: 1 })],
    ['a cancellation', (queue) => queue.cancel({ filter: {} })],
    ['a key', (queue) => new KeyRing(queue).add({ name: 'k', scopes: [], rate: null, expiresAt: null, session: null })],
    ['a schedule', (queue) => queue.schedules({ add: schedule })],
    ['a durable turn', (queue) => queue.turn({ worker: WORKER, want: 1, durable: true })],
  ])('answers %s after the sync', async (_, call) => {
    const queue = await openFile()
    await submit(queue)
    await queue.keys() // The first call writes a secret.
    expect(await isEarly(() => call(queue), tick)).toBe(false)
  })

  it('does not delay the turns of its own workers by the sync', async () => {
    const queue = await openFile()
    await submit(queue)
    expect(await isEarly(() => queue.turn({ worker: WORKER, want: 1 }), tick)).toBe(true)
  })

  it.each<[string, (queue: Queue) => Promise<unknown>]>([
    ['a list', (queue) => queue.list({ limit: 10 })],
    ['counts', (queue) => queue.stats()],
    ['events', (queue) => queue.events({ after: null, max: 1 })],
  ])('shows %s after the sync of what it shows', async (_, read) => {
    const queue = await openFile()
    await submit(queue)
    const claimAndRead = async () => {
      await queue.turn({ worker: WORKER, want: 1 })
      return read(queue)
    }
    expect(await isEarly(claimAndRead, tick)).toBe(false)
  })

  it('shows the writes of another process after the sync of them', async () => {
    const queue = await openFile()
    const other = await openTestQueue(queue.url)
    const read = async () => {
      await other.turn({ worker: WORKER, want: 0 })
      return queue.list({ limit: 10 })
    }
    expect(await isEarly(read, tick)).toBe(false)
  })
})

describe('after a sync has failed', () => {
  /** A submission whose sync fails: the disk may have dropped any part of the log. */
  async function withFailedSync(): Promise<{ queue: Queue; path: string; syncs: HeldSyncs }> {
    const queue = await openFile()
    await submit(queue)
    const path = new URL(queue.url).pathname
    expect(statSync(`${path}-wal`).size).toBeGreaterThan(0)
    const syncs = new HeldSyncs()
    const failed = submit(queue).catch((error: XQueueError) => error.code)
    await syncs.asked()
    syncs.fail()
    expect(await failed).toBe('engine_unavailable')
    return { queue, path, syncs }
  }

  it('relies on no log from before', async () => {
    const { queue, path, syncs } = await withFailedSync()
    const accepted = submit(queue)
    await syncs.asked()
    expect(statSync(`${path}-wal`).size).toBe(0)
    syncs.release()
    await accepted
    expect((await queue.stats()).counts.pending).toBe(3)
  })

  it('accepts nothing while another process keeps the log, and goes on after that', async () => {
    const { queue, path, syncs } = await withFailedSync()
    syncs.release()
    const other = new DatabaseSync(path)
    other.exec('BEGIN; SELECT 1 FROM tasks')
    await expect(submit(queue)).rejects.toMatchObject({ code: 'engine_unavailable' })
    other.close()
    await submit(queue)
  })
})

describe('a server on a file', () => {
  const cases: [string, (lease: string) => [path: string, body: object]][] = [
    ['a success', (lease) => [`/leases/${lease}/complete`, { result: 1 }]],
    ['a failure', (lease) => [`/leases/${lease}/fail`, { error: 'no' }]],
    ['the outcomes of a turn', (lease) => ['/tasks/turn', { outcomes: [{ lease, result: 1 }] }]],
    ['taken tasks', () => ['/tasks/consume', { types: ['t'] }]],
    ['tasks taken in a turn', () => ['/tasks/turn', { types: ['t'], max: 1 }]],
  ]
  it.each(cases)('answers %s after the sync', async (_, callOf) => {
    const queue = await openFile()
    const server = await serveQueue(queue)
    for (let task = 0; task < 3; task++) await submit(queue)
    // The server knows the type and the worker from here on, and writes nothing else in the call below.
    const { leases } = (await server.post('/tasks/consume', { types: ['t'] })).body
    await server.post('/tasks/turn', { types: ['t'], max: 1 })
    const [path, body] = callOf(leases[0].lease)
    const call = async () => expect((await server.post(path, body)).status).toBe(200)
    expect(await isEarly(call, () => server.get('/openapi.json'))).toBe(false)
  })
})

let disk: SmallDisk | undefined
afterEach(() => {
  disk?.remove()
  disk = undefined
})

it.each([
  ['sqlite::memory:', /^lives as long as this process$/],
  ['sqlite:FOLDER/x.db', /power loss \(WAL, synced/],
  ['sqlite:FOLDER/x.db?synchronous=normal', /before a power loss may be lost/],
])('health says what %s survives', async (url, durability) => {
  const queue = await openTestQueue(url.replace('FOLDER', temporaryFolder()))
  expect((await queue.health()).durability).toMatch(durability)
})

it('is not healthy on a full disk, because health writes', async () => {
  disk = new SmallDisk(16)
  const queue = await openTestQueue(`sqlite:${join(disk.folder, 'x.db')}`)
  expect((await queue.health()).checks).toMatchObject([{ ok: true }])
  disk.fill()
  expect((await queue.health()).checks).toMatchObject([{ ok: false, detail: expect.stringContaining('disk is full') }])
  disk.makeRoom()
  expect((await queue.health()).checks).toMatchObject([{ ok: true }])
  await queue.close()
})
