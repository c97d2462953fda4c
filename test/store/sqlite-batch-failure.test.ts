import { beforeEach, expect, it } from 'vitest'
import { readNamed } from '../../src/queue/event-reader.ts'
import type { Queue } from '../../src/queue/queue.ts'
import { openStore } from '../../src/store/open.ts'
import { RETRY_DEFAULTS } from '../../src/task/retry.ts'
import { completeSpec } from '../../src/task/task.ts'
import { closeAfterwards } from '../fixtures/closing.ts'
import { openTestQueue } from '../fixtures/server.ts'

let queue: Queue
beforeEach(async () => {
  queue = await openTestQueue('sqlite::memory:')
  const limits = { maxConcurrency: null, groupConcurrency: null, rate: null }
  await queue.configureType('t', {
    handler: { ...limits, retry: RETRY_DEFAULTS, payloadSchema: null, defaults: {} },
  })
})

it('fails only the call that SQLite cannot execute, of those that share a transaction', async () => {
  // No check covers a key whose id SQLite cannot bind.
  const bad = () => queue.keys({ add: { id: { not: 'text' } } as never })
  const submit = () => queue.submit([completeSpec({ type: 't' })])
  const answers = await Promise.allSettled([submit(), submit(), bad(), submit(), bad(), submit()])
  expect(answers.map(({ status }) => status)).toEqual([
    ...['fulfilled', 'fulfilled', 'rejected', 'fulfilled', 'rejected', 'fulfilled'],
  ])
  expect((await queue.list({ limit: 10 })).tasks).toHaveLength(4)
})

it('also carries out a call that arrives while the calls of a failed transaction are repeated one by one', async () => {
  const submit = () => queue.submit([completeSpec({ type: 't' })])
  const last = submit().then(submit)
  await expect(queue.keys({ add: { id: { not: 'text' } } as never })).rejects.toThrow()
  await last
  expect((await queue.list({ limit: 10 })).tasks).toHaveLength(2)
})

it('believes nothing of a transaction that was rolled back: types', async () => {
  const limits = { groupConcurrency: null, rate: null, retry: RETRY_DEFAULTS, payloadSchema: null, defaults: {} }
  const handlers = new Map([['new', { ...limits, maxConcurrency: { not: 'a number' } as never }]])
  await expect(queue.declareHandlers(handlers)).rejects.toThrow()
  await expect(queue.configureType('new', { paused: true })).rejects.toMatchObject({ code: 'unknown_type' })
})

it('believes nothing of a transaction that was rolled back: times at which something is due', async () => {
  let now = 1_700_000_000_000
  const store = await openStore('sqlite::memory:', { clock: () => now }, readNamed)
  closeAfterwards(() => store.close())
  await store.configureType('t', { declared: true })
  await store.submit([completeSpec({ type: 't', delayMs: 1_000 })])
  now += 1_000
  const bad = { kind: 'key', id: { not: 'text' } as never, to: '' } as const
  const [swept] = await Promise.all([store.sweep(100), expect(store.documents({ changes: [bad] })).rejects.toThrow()])
  expect(swept.changed).toBe(1)
  const worker = { id: 'w', host: 'h', pid: 1, types: ['t'], concurrency: 1, startedAt: 0 }
  expect((await store.turn({ worker, want: 1 })).leases).toHaveLength(1)
})
