import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { CallRates } from '../../src/access/call-rates.ts'
import type { Queue } from '../../src/queue/queue.ts'
import { openTestQueue } from '../fixtures/server.ts'

const RATE = { max: 3, perMs: 60_000 }
let asked: [id: string, calls: number][]
let failing: boolean
let rates: CallRates
beforeEach(async () => {
  const queue = await openTestQueue()
  vi.useFakeTimers({ toFake: ['performance'] })
  // The clock does not begin at 0.
  vi.advanceTimersByTime(10_000)
  asked = []
  failing = false
  const countCalls: Queue['countCalls'] = (id, rate, calls) => {
    asked.push([id, calls])
    return failing ? Promise.reject(new Error('no store')) : queue.countCalls(id, rate, calls)
  }
  rates = new CallRates({ countCalls })
})
afterEach(() => {
  vi.useRealTimers()
})
const count = (id: string, times: number) => Promise.all(Array.from({ length: times }, () => rates.count(id, RATE)))

it('lets as many calls as allowed begin, and asks no more until the next is allowed', async () => {
  expect(await count('a', 3)).toEqual([0, 0, 0])
  expect(asked).toEqual([
    ['a', 1],
    ['a', 2],
  ])
  const [waitMs] = await count('a', 1)
  expect(waitMs).toBeGreaterThan(RATE.perMs / 2)
  expect(waitMs).toBeLessThanOrEqual(RATE.perMs)
  expect(asked).toHaveLength(3)
  vi.advanceTimersByTime(waitMs! - 1)
  expect(await count('a', 2)).toEqual([1, 1])
  expect(asked).toHaveLength(3)
  vi.advanceTimersByTime(1)
  await count('a', 1)
  expect(asked).toHaveLength(4)
})

it('counts each key by itself', async () => {
  expect(await count('a', 4)).toEqual([0, 0, 0, expect.any(Number)])
  expect(await count('b', 2)).toEqual([0, 0])
})

it('reports a failure to the calls that share the question, and asks again for later ones', async () => {
  failing = true
  const answers = await Promise.allSettled([rates.count('a', RATE), rates.count('a', RATE)])
  expect(answers.map(({ status }) => status)).toEqual(['rejected', 'rejected'])
  failing = false
  expect(await count('a', 1)).toEqual([0])
})

it('remembers keys whose next call is not allowed yet, however many there are', async () => {
  for (let key = 0; key < 1_000; key++) await rates.count(`idle-${key}`, RATE)
  // In place of an idle one: they have all been forgotten.
  await count('a', 4)
  for (let key = 0; key < 1_000; key++) await rates.count(`other-${key}`, RATE)
  const before = asked.length
  expect(await count('a', 1)).toEqual([expect.any(Number)])
  expect(asked).toHaveLength(before)
})
