import { expect, it } from 'vitest'
import { JsonText } from '../../src/task/json.ts'
import { reportedProgress } from '../../src/task/progress.ts'
import { TASK_LIMITS } from '../../src/task/task.ts'

const NEITHER = 'it is neither a number nor an object'

it.each([
  [-1, 0],
  [0, 0],
  [99.5, 99.5],
  [101, 100],
  [Number.POSITIVE_INFINITY, 100],
])('takes %d as %d', (value, progress) => {
  expect(reportedProgress(value)).toEqual({ progress })
})

it.each([
  [{ done: 3 }, '{"done":3}'],
  [new JsonText('{"done":3}'), '{"done":3}'],
])('takes an object as it is', (value, text) => {
  expect(reportedProgress(value)).toEqual({ progress: new JsonText(text) })
})

it.each([
  [Number.NaN, 'it is NaN'],
  ['50', NEITHER],
  [null, NEITHER],
  [[50], NEITHER],
  [true, NEITHER],
  [new JsonText('[50]'), NEITHER],
  [undefined, 'progress is a undefined, which JSON cannot represent'],
  [{ at: 1n }, expect.stringContaining('progress.at ')],
])('ignores other values, and says why', (value, ignored) => {
  expect(reportedProgress(value)).toEqual({ ignored })
})

it('ignores an object with more bytes than allowed, but not one with as many', () => {
  const sized = (bytes: number) => ({ text: 'x'.repeat(bytes - '{"text":""}'.length) })
  const max = TASK_LIMITS.progressBytesMax
  expect(reportedProgress(sized(max))).toHaveProperty('progress')
  expect(reportedProgress(sized(max + 1))).toEqual({ ignored: `it has ${max + 1} bytes, the maximum is ${max}` })
})
