import { expect, it } from 'vitest'
import { type LimitState, LimitWatch } from '../../src/task/limit-watch.ts'

it('finds all limits at first, then those that are new, have changed or are gone, and all again after it forgot', async () => {
  let states: LimitState[] = []
  const watch = new LimitWatch(async () => states)
  const look = (...now: LimitState[]) => {
    states = now
    return watch.look()
  }
  const [a, b] = [
    { name: 'a', max: 1 },
    { name: 'b', max: null },
  ]
  expect(await look(a, b)).toEqual([a, b])
  expect(await look(b, a)).toEqual([])
  expect(await look({ ...a, max: 2 }, b)).toEqual([{ ...a, max: 2 }])
  expect(await look({ ...a, max: 2 })).toEqual([{ name: 'b', removed: true }])
  expect(await look({ ...a, max: 2 })).toEqual([])
  watch.forget()
  expect(await look({ ...a, max: 2 })).toEqual([{ ...a, max: 2 }])
})
