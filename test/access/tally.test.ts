import { expect, it, vi } from 'vitest'
import { completeSpec } from '../../src/task/task.ts'
import { Tally } from '../../src/tenants/tally.ts'
import { openTestQueue } from '../fixtures/server.ts'

it('counts the tasks of a tenant again after five seconds', async () => {
  vi.useFakeTimers({ toFake: ['performance'] })
  try {
    const queue = await openTestQueue()
    await queue.configureType('t', { declared: true })
    vi.advanceTimersByTime(10_000)
    const tally = new Tally((query) => queue.list(query))
    const pending = async () => (await tally.all()).counts.pending
    expect(await pending()).toBe(0)
    await queue.submit([completeSpec({ type: 't' })])
    vi.advanceTimersByTime(4_999)
    expect(await pending()).toBe(0)
    vi.advanceTimersByTime(1)
    expect(await pending()).toBe(1)
  } finally {
    vi.useRealTimers()
  }
})
