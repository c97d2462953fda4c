import { beforeEach, expect, it } from 'vitest'
import type { Queue } from '../../src/queue/queue.ts'
import { RETRY_DEFAULTS } from '../../src/task/retry.ts'
import { completeSpec } from '../../src/task/task.ts'
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
