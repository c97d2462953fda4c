import { expect, it } from 'vitest'
import { Prefetch } from '../../src/worker/prefetch.ts'

function after(attempts: number, ms: number, prefetch = new Prefetch(10, 64)): Prefetch {
  for (let attempt = 0; attempt < attempts; attempt++) prefetch.ended(ms)
  return prefetch
}

it('holds nothing before a hundred fast attempts in a row', () => {
  expect([after(0, 0).ahead(), after(99, 0).ahead(), after(100, 0).ahead()]).toEqual([0, 0, 64])
  const interrupted = after(99, 5, after(99, 5))
  expect(interrupted.ahead()).toBeGreaterThan(0)
  interrupted.ended(5.1)
  expect([interrupted.ahead(), after(99, 5, interrupted).ahead(), after(1, 5, interrupted).ahead()]).toEqual([0, 0, 9])
})

it('holds nothing again when held tasks did not start in time', () => {
  const prefetch = after(100, 5)
  expect(prefetch.ahead()).toBe(10)
  prefetch.slow()
  expect([prefetch.ahead(), after(99, 5, prefetch).ahead(), after(1, 5, prefetch).ahead()]).toEqual([0, 0, 10])
})

it('holds as many tasks as run in five milliseconds', () => {
  // Long enough that the mean is exact but for rounding.
  expect(after(2_000, 3).ahead()).toBe(16)
  expect(after(2_000, 4).ahead()).toBe(12)
  expect(new Prefetch(10, 64).ahead()).toBe(0)
  // The mean moves by a part of the difference: 5 - (5 - 1) / 32 and so on.
  const mean = 1 + 4 * (31 / 32) ** 100
  expect(after(100, 1).ahead()).toBe(Math.floor(50 / mean))
  expect(after(100, 0, new Prefetch(10, 1e9)).ahead()).toBe(Math.floor(50 / (5 * (31 / 32) ** 100)))
  expect(after(5_000, 0, new Prefetch(10, 1e9)).ahead()).toBe(5_000)
})
