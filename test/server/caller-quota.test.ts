import { expect, it } from 'vitest'
import { CallerQuota } from '../../src/server/caller-quota.ts'

it('bounds what the calls of each caller hold together, until they give it back', () => {
  const calls = new CallerQuota(10, 'too much: hold less')
  calls.take('ann', 6)
  calls.take('ann', 4)
  expect(() => calls.take('ann', 1)).toThrow('too much: hold less')
  calls.take('bob', 10)
  calls.give('ann', 4)
  calls.take('ann', 4)
  calls.give('ann', 6)
  calls.give('ann', 4)
  calls.take('ann', 10)
  expect(() => calls.take('bob', 1)).toThrow(expect.objectContaining({ code: 'too_many_calls' }))
})
