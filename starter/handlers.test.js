import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createTestQueue } from 'xqueue/testing'
import handlers from './handlers.js'

test('greets by name', async () => {
  await using queue = await createTestQueue(handlers)
  const task = await queue.submit('greet', { name: 'Ann' })
  await queue.runUntilIdle()
  assert.deepEqual(await queue.result(task), { text: 'Hello, Ann!' })
})
