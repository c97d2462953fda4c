import { expect, it } from 'vitest'
import { isRunAgain } from '../../src/task/run-again.ts'

it('finds the first attempt after an explicit retry by the numbers, which lost attempts do not raise', () => {
  const attempts = [
    [1, 'lost'],
    [1, 'failed'],
    [2, 'released'],
    [2, 'failed'],
    [1, 'failed'],
    [1, 'timeout'],
    [2, 'held'],
    [1, 'success'],
  ].map(([number, outcome]) => ({ number: number as number, outcome: outcome as string }))
  expect(attempts.map((each, at) => isRunAgain(each, attempts[at - 1]))).toEqual([0, 0, 0, 0, 1, 1, 0, 1].map(Boolean))
})
