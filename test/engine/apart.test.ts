import { afterEach, beforeEach, expect, it } from 'vitest'
import type { Engine } from '../../src/engine/engine.ts'
import { openEngine } from '../../src/engine/open.ts'
import { RETRY_DEFAULTS } from '../../src/task/retry.ts'
import { completeSpec } from '../../src/task/task.ts'

let engine: Engine
beforeEach(async () => {
  engine = await openEngine('sqlite::memory:')
  const limits = { maxConcurrency: null, groupConcurrency: null, rate: null }
  await engine.configureType('t', {
    handler: { ...limits, retry: RETRY_DEFAULTS, payloadSchema: null, defaults: {} },
  })
})
afterEach(() => engine.close())

it('fails only the call that SQLite cannot carry out, of those that share a transaction', async () => {
  // No check knows of it: a key whose id SQLite cannot bind.
  const bad = () => engine.keys({ add: { id: { not: 'text' } } as never })
  const submit = () => engine.submit([completeSpec({ type: 't' })])
  const answers = await Promise.allSettled([submit(), submit(), bad(), submit(), bad(), submit()])
  expect(answers.map(({ status }) => status)).toEqual([
    ...['fulfilled', 'fulfilled', 'rejected', 'fulfilled', 'rejected', 'fulfilled'],
  ])
  expect((await engine.list({ limit: 10 })).tasks).toHaveLength(4)
})
