import { randomBytes } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { encrypted } from '../../src/queue/encrypted-queue.ts'
import { Encryption } from '../../src/queue/encryption.ts'
import { keyless } from '../../src/queue/keyless-queue.ts'
import { openQueue } from '../../src/queue/open.ts'
import type { Queue } from '../../src/queue/queue.ts'
import { redacted } from '../../src/queue/redacted-queue.ts'
import type { Json } from '../../src/task/json.ts'
import type { Outcome } from '../../src/task/outcome.ts'
import { redactionOf } from '../../src/task/redaction.ts'
import { completeSpec } from '../../src/task/task.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { queueContract } from '../queue-contract/contract.ts'
import { WORKER } from '../queue-contract/fixture.ts'

const newKey = (id: string) => `${id}=${randomBytes(32).toString('base64')}`
const [OLD, NEW] = [newKey('2025'), newKey('2026')]

// As a process wraps its queue, with fields to hide that the contract does not use.
queueContract(
  'SQLite in memory, sealed and redacted',
  async (options) => {
    const wrapped = (queue: Queue) => {
      const opened = encrypted(queue, new Encryption([NEW], { strict: true }))
      return redacted(opened, redactionOf(['payload.secret.*']))
    }
    const own = await openQueue('sqlite::memory:', options)
    const queue = wrapped(own)
    const second = async () => wrapped(await openQueue(own.url, options))
    return { queue, second, cleanup: () => queue.close() }
  },
  { randomRuns: 10 },
)

describe('encryption', () => {
  const encryption = new Encryption([NEW, OLD])

  it('decrypts its data, also with a key that is no longer the first', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        for (const by of [encryption, new Encryption([OLD])]) {
          // JSON knows no -0.
          expect(encryption.decrypt(by.encrypt(value as Json, 'x'), 'x')).toEqual({
            value: JSON.parse(JSON.stringify(value)),
          })
        }
      }),
    )
  })

  it('encrypts equal data to equal text only with an idempotency key, and differently for each field', () => {
    expect(encryption.encrypt('a', 'x')).not.toBe(encryption.encrypt('a', 'x'))
    expect(encryption.encrypt('a', 'x', 'k')).toBe(encryption.encrypt('a', 'x', 'k'))
    expect(
      new Set([
        encryption.encrypt('a', 'x', 'k'),
        encryption.encrypt('a', 'x', 'l'),
        encryption.encrypt('b', 'x', 'k'),
        encryption.encrypt('a', 'y', 'k'),
      ]).size,
    ).toBe(4)
  })

  it('refuses data that was changed, moved, or encrypted with another key', () => {
    const sealed = encryption.encrypt({ a: 1 }, 'x')
    expect(encryption.decrypt(sealed, 'y')).toEqual({ keyId: '2026' })
    expect(new Encryption([OLD]).decrypt(sealed, 'x')).toEqual({ keyId: '2026' })
    expect(new Encryption([newKey('2026')]).decrypt(sealed, 'x')).toEqual({ keyId: '2026' })
    const bytes = Buffer.from(sealed.split(':')[2]!, 'base64url')
    for (let at = 0; at < bytes.length; at++) {
      const changed = Buffer.from(bytes)
      changed[at]! ^= 1
      expect(encryption.decrypt(`sealed:2026:${changed.toString('base64url')}`, 'x')).toEqual({ keyId: '2026' })
    }
    for (let length = 1; length < bytes.length; length++) {
      const cut = bytes.subarray(0, length).toString('base64url')
      expect(encryption.decrypt(`sealed:2026:${cut}`, 'x')).toEqual({ keyId: '2026' })
    }
    expect(encryption.decrypt('sealed: not', 'x')).toEqual({ value: 'sealed: not' })
  })

  it.each(['', 'x', 'x=short', `x y=${randomBytes(32).toString('base64')}`, `x=${randomBytes(31).toString('base64')}`])(
    'refuses %j as a key without repeating it',
    (text) => {
      expect(() => new Encryption([text])).toThrow(/32 random bytes in base64/)
      expect(() => new Encryption([NEW, NEW])).toThrow(/two keys with the same id/)
      try {
        new Encryption([text])
      } catch (error) {
        if (text.length > 10) expect(String(error)).not.toContain(text)
      }
    },
  )
})

describe('an encrypted store', () => {
  let folder: string
  let store: Queue
  const open = (...keys: string[]) => encrypted(store, new Encryption(keys))

  beforeEach(async () => {
    folder = temporaryFolder()
    store = await openQueue(`sqlite:${join(folder, 'x.db')}`)
    await store.configureType('t', { declared: true })
  })
  afterEach(async () => {
    await store.close()
  })
  const claim = (queue: Queue) => queue.turn({ worker: WORKER, want: 9 })

  it('stores no plain payload, result or progress on the disk, and returns them', async () => {
    const queue = open(NEW)
    const idempotencyKey = 'once'
    const [submitted] = await queue.submit([
      completeSpec({ type: 't', payload: { a: 'top-secret-1' }, idempotencyKey }),
    ])
    const { id } = submitted!.task
    const { leases } = await claim(queue)
    expect(leases.map(({ task }) => task.payload)).toEqual([{ a: 'top-secret-1' }])
    const { lease } = leases[0]!
    await queue.turn({ worker: WORKER, want: 0, renewals: [{ lease, progress: { at: 'top-secret-2' } }] })
    expect((await queue.get([id]))[0]!.progress).toEqual({ at: 'top-secret-2' })
    const outcome: Outcome = { kind: 'success', result: ['top-secret-3'] }
    const outcomes = [{ lease, outcome }]
    await queue.turn({ worker: WORKER, want: 0, outcomes, durable: true })
    expect((await queue.get([id]))[0]).toMatchObject({ payload: { a: 'top-secret-1' }, result: ['top-secret-3'] })
    const { events } = await queue.events({ after: '', max: 100 })
    expect(events.at(-1)!.result).toEqual(['top-secret-3'])
    const files = readdirSync(folder).map((name) => readFileSync(join(folder, name)))
    expect(files.length).toBeGreaterThan(1)
    expect(files.some((bytes) => bytes.includes('sealed:2026:'))).toBe(true)
    expect(files.some((bytes) => bytes.includes('top-secret'))).toBe(false)
  })

  it('recognizes a repeated submission, and refuses a different one under the same key', async () => {
    const queue = open(NEW)
    const submit = (payload: Json) => queue.submit([completeSpec({ type: 't', payload, idempotencyKey: 'k' })])
    const [first] = await submit({ a: 1 })
    expect(await submit({ a: 1 })).toEqual([{ task: first!.task, existing: true }])
    await expect(submit({ a: 2 })).rejects.toThrow('used for another request')
  })

  it('reads data that was encrypted with an old key, and data that was never encrypted', async () => {
    await store.submit([completeSpec({ type: 't', payload: 'plain', priority: 3 })])
    await open(OLD).submit([completeSpec({ type: 't', payload: 'old', priority: 2 })])
    await open(NEW, OLD).submit([completeSpec({ type: 't', payload: 'new', priority: 1 })])
    const { leases } = await claim(open(NEW, OLD))
    expect(leases.map(({ task }) => task.payload)).toEqual(['plain', 'old', 'new'])
  })

  it('encrypts the payloads of schedules, and their tasks are read like others', async () => {
    const queue = open(NEW)
    const { delayMs: _, runAt: __, idempotencyKey: ___, ...task } = completeSpec({ type: 't', payload: { pin: 1 } })
    const timing = { everyMs: 60_000 }
    const spec = { id: 's', task, timing, catchUp: 'one', overlap: 'allow', paused: true } as const
    await queue.schedules({ add: spec })
    // An equal request has equal text.
    expect(await queue.schedules({ add: spec })).toMatchObject([{ task: { payload: { pin: 1 } } }])
    expect(JSON.stringify(await store.schedules())).not.toContain('pin')
    const altered = await queue.schedules({ alter: 's', to: { task: { type: 't', payload: { pin: 2 } } } })
    expect(altered[0]!.task.payload).toEqual({ pin: 2 })
    expect(JSON.stringify(await store.schedules())).not.toContain('pin')
    await queue.schedules({ run: 's' })
    const { leases } = await claim(queue)
    expect(leases.map(({ task }) => task.payload)).toEqual([{ pin: 2 }])
  })

  it('passes no unreadable payload to a handler: the attempt fails, and runs in a process with the key', async () => {
    const [submitted] = await open(OLD).submit([completeSpec({ type: 't', payload: 'old' })])
    const { id } = submitted!.task
    const without = open(NEW)
    expect((await claim(without)).leases).toEqual([])
    const [task] = await without.get([id])
    expect(task).toMatchObject({ status: 'pending', attempts: 1, payload: '[encrypted with the key 2025]' })
    expect(task!.error).toContain('cannot be decrypted with the key 2025 of this worker (--payload-keys)')
  })

  it('is recognized by a process without keys: its handlers get nothing encrypted, and it shows which key is needed', async () => {
    const [sealing, without] = [open(NEW), keyless(store)]
    const long = 'x'.repeat(2_000)
    const specs = ['a', long].map((payload) => completeSpec({ type: 't', payload }))
    const ids = (await sealing.submit(specs)).map(({ task }) => task.id)
    const shown = '[encrypted with the key 2026]'
    for (const task of [...(await without.list({ limit: 10 })).tasks, ...(await without.get(ids))]) {
      expect(task!.payload).toBe(shown)
    }
    expect((await claim(without)).leases).toEqual([])
    for (const task of await sealing.get(ids)) {
      expect(task).toMatchObject({ status: 'pending', attempts: 1 })
      expect(task!.error).toContain('cannot be decrypted with the key 2026 of this worker (--payload-keys)')
    }
    const [first] = await finish(sealing, { group: 'g', payload: long })
    const [ended] = await without.get([first!])
    expect(ended).toMatchObject({ status: 'success', payload: shown, result: shown })
    const plain = completeSpec({ type: 't', payload: 'sealed: no', after: [first!] })
    const [next] = await without.submit([plain])
    const { leases } = await claim(without)
    const mine = leases.find(({ task }) => task.id === next!.task.id)!
    expect(mine).toMatchObject({ task: { payload: 'sealed: no' }, predecessors: [{ id: first, result: shown }] })
    expect(await without.predecessor(mine.lease, first!)).toMatchObject({ result: shown })
    const lines = [JSON.stringify({ time: new Date().toISOString(), level: 'info', message: 'secret' })]
    await sealing.turn({ worker: WORKER, want: 0, logs: [{ lease: mine.lease, lines }] })
    expect((await without.logs(next!.task.id, 0, 10))!.lines).toMatchObject([{ message: shown, fields: null }])
    const events = (await without.events({ after: '', max: 100 })).events.filter(({ taskId }) => taskId === first)
    expect(events.at(-1)).toMatchObject({ status: 'success', result: shown })
  })

  /** Runs one task of each payload to success; its result is the payload again. */
  async function finish(queue: Queue, ...specs: { group: string; payload: Json }[]): Promise<string[]> {
    const submitted = await queue.submit(specs.map((spec) => completeSpec({ type: 't', ...spec })))
    const { leases } = await claim(queue)
    const outcomes = leases.map(({ lease, task }) => ({
      lease,
      outcome: { kind: 'success', result: task.payload } as const,
    }))
    await queue.turn({ worker: WORKER, want: 0, outcomes })
    return submitted.map(({ task }) => task.id)
  }

  /** An attacker that can write to the file. */
  function tamper(sql: string, ...values: string[]): void {
    const file = new DatabaseSync(join(folder, 'x.db'))
    file.prepare(sql).run(...values)
    file.close()
  }

  it('returns no result that was moved from another task, and no payload from another group', async () => {
    const queue = open(NEW)
    const [first, second] = await finish(queue, { group: 'acme', payload: 'a' }, { group: 'globex', payload: 'b' })
    const seq = (place: string) => `(SELECT seq FROM tasks WHERE id = ${place})`
    const moved = `(SELECT payload FROM payloads WHERE seq = ${seq('?')})`
    expect((await queue.get([first!]))[0]).toMatchObject({ payload: 'a', result: 'a' })
    tamper(`UPDATE payloads SET payload = ${moved} WHERE seq = ${seq('?')}`, second!, first!)
    tamper(
      'UPDATE tasks SET result = (SELECT result FROM tasks AS other WHERE other.id = ?) WHERE id = ?',
      second!,
      first!,
    )
    const closed = '[encrypted with the key 2026]'
    expect((await queue.get([first!]))[0]).toMatchObject({ payload: closed, result: closed })
    expect((await queue.get([second!]))[0]).toMatchObject({ payload: 'b', result: 'b' })
  })

  it('strict: does not return or run plain text in place of encrypted data', async () => {
    const strict = encrypted(store, new Encryption([NEW], { strict: true }))
    const [forged] = await store.submit([completeSpec({ type: 't', payload: 'forged' })])
    expect((await claim(strict)).leases).toEqual([])
    expect((await strict.get([forged!.task.id]))[0]).toMatchObject({
      payload: '[not encrypted]',
      error: 'the payload is not encrypted, and --payload-strict accepts encrypted payloads only',
    })
    expect((await open(NEW).get([forged!.task.id]))[0]!.payload).toBe('forged')
    const [id] = await finish(strict, { group: 'acme', payload: 'own' })
    expect((await strict.get([id!]))[0]).toMatchObject({ payload: 'own', result: 'own' })
  })

  it('reads data that the previous version encrypted, unless it is strict', async () => {
    const before = new Encryption([NEW])
    const [task] = await store.submit([
      completeSpec({ type: 't', group: 'acme', payload: before.encrypt('old payload', 'payload of t') }),
    ])
    const { leases } = await store.turn({ worker: WORKER, want: 1 })
    const { lease } = leases[0]!
    const outcome: Outcome = { kind: 'success', result: before.encrypt('old result', 'result') }
    await store.turn({ worker: WORKER, want: 0, outcomes: [{ lease, outcome }] })
    const { id } = task!.task
    expect((await open(NEW).get([id]))[0]).toMatchObject({ payload: 'old payload', result: 'old result' })
    const closed = '[encrypted with the key 2026]'
    const strict = encrypted(store, new Encryption([NEW], { strict: true }))
    expect((await strict.get([id]))[0]).toMatchObject({ payload: closed, result: closed })
  })

  it('a schedule whose group changes keeps a payload that its tasks can read', async () => {
    const queue = encrypted(store, new Encryption([NEW], { strict: true }))
    const { delayMs: _, runAt: __, idempotencyKey: ___, ...task } = completeSpec({ type: 't', payload: { pin: 1 } })
    const timing = { everyMs: 60_000 }
    await queue.schedules({ add: { id: 's', task, timing, catchUp: 'one', overlap: 'allow', paused: true } })
    await queue.schedules({ alter: 's', to: { task: { type: 't', group: 'acme' } } })
    await queue.schedules({ run: 's' })
    await queue.schedules({ alter: 's', to: { task: { type: 't', payload: { pin: 2 } } } })
    await queue.schedules({ run: 's' })
    const { leases } = await claim(queue)
    expect(leases.map(({ task }) => [task.group, task.payload])).toEqual([
      ['acme', { pin: 1 }],
      ['acme', { pin: 2 }],
    ])
  })
})
