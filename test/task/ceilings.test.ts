import { describe, expect, it } from 'vitest'
import {
  aboveCeilings,
  type Ceilings,
  changedCeilings,
  changeTo,
  confinedCeilings,
  defaultsWithin,
} from '../../src/task/ceilings.ts'
import { completeSpec, type TaskSpec } from '../../src/task/task.ts'

const ALL = { maxRetry: 3, priority: 5, queueTimeoutMs: 2_000, processTimeoutMs: 1_500, payloadBytes: 100 }
const AT_THEM = { maxRetry: 3, priority: 5, queueTimeoutMs: 2_000, processTimeoutMs: 1_500 }

describe('a task', () => {
  const errors = (spec: Partial<TaskSpec>, bytes = 100, ceilings: Ceilings = ALL) =>
    aboveCeilings(completeSpec({ type: 't', ...AT_THEM, ...spec }), bytes, ceilings, 'tasks[1].')

  it('may be at its ceilings, or without any', () => {
    expect(errors({})).toEqual([])
    expect(errors({ maxRetry: 0, priority: 0 }, 0)).toEqual([])
    expect(errors({ queueTimeoutMs: 0, processTimeoutMs: 0, maxRetry: 9 }, 1_000_000, {})).toEqual([])
  })

  it.each<[string, Partial<TaskSpec>, number, string]>([
    ['max_retry', { maxRetry: 4 }, 100, 'is 4, above the ceiling of 3'],
    ['priority', { priority: 6 }, 100, 'is 6, above the ceiling of 5'],
    ['queue_timeout', { queueTimeoutMs: 2_001 }, 100, 'is 2.001 s, above the ceiling of 2 s'],
    ['queue_timeout', { queueTimeoutMs: 0 }, 100, 'is 0 (no limit), above the ceiling of 2 s'],
    ['process_timeout', { processTimeoutMs: 1_501 }, 100, 'is 1.501 s, above the ceiling of 1.5 s'],
    ['process_timeout', { processTimeoutMs: 0 }, 100, 'is 0 (no limit), above the ceiling of 1.5 s'],
    ['payload', {}, 101, 'has 101 bytes, above the ceiling of 100 bytes'],
  ])('above the ceiling of %s is refused: %j, %d bytes', (field, spec, bytes, what) => {
    const remedy = 'use a lower value, or raise the ceiling with POST /api/v1/types/t'
    const message = `${what} for tasks of the type "t": ${remedy}`
    expect(errors(spec, bytes)).toEqual([{ path: `tasks[1].${field}`, message }])
  })
})

describe('the ceilings of a caller that cannot overrule the handler', () => {
  it.each([
    ['nothing', {}, { processTimeoutMs: 86_400_000 }],
    ['all', { ...AT_THEM, uses: { gpu: 1 } }, { maxRetry: 3, queueTimeoutMs: 2_000, processTimeoutMs: 1_500 }],
    ['no time-outs', { queueTimeoutMs: 0, processTimeoutMs: 0, maxRetry: 0 }, { maxRetry: 0 }],
  ])('are the values of the handler, which sets %s', (_, handler, ceilings) => {
    expect(confinedCeilings({}, handler)).toEqual(ceilings)
    expect(confinedCeilings({ processTimeoutMs: 5 }, handler)).toEqual({ ...ceilings, processTimeoutMs: 5 })
  })
})

describe('the defaults of a handler', () => {
  it.each([
    ['below the ceilings stay', { maxRetry: 1, queueTimeoutMs: 3, processTimeoutMs: 4 }, {}],
    ['at the ceilings stay', { maxRetry: 3, queueTimeoutMs: 2_000, processTimeoutMs: 1_500 }, {}],
    ['above are lowered', { maxRetry: 4, queueTimeoutMs: 2_001, processTimeoutMs: 1_501 }, AT_THEM],
    ['without limit are lowered', { maxRetry: 0, queueTimeoutMs: 0, processTimeoutMs: 0 }, { ...AT_THEM, maxRetry: 0 }],
    ['that are not set are lowered', { maxRetry: 2 }, { ...AT_THEM, maxRetry: 2 }],
  ])('%s', (_, handler, lowered) => {
    const { priority, ...expected } = { priority: 0, ...handler, ...lowered }
    expect(defaultsWithin(ALL, handler)).toEqual(expected)
    expect(defaultsWithin({}, handler)).toEqual(handler)
  })

  it('are also lowered if they are those of every task', () => {
    expect(defaultsWithin({ maxRetry: 2, queueTimeoutMs: 599_999, processTimeoutMs: 300_000 }, {})).toEqual({
      maxRetry: 2,
      queueTimeoutMs: 599_999,
    })
  })
})

it('a change of ceilings leaves the others, and null removes one', () => {
  expect(changedCeilings({ maxRetry: 1, priority: 2 }, { priority: null, payloadBytes: 5 })).toEqual({
    maxRetry: 1,
    payloadBytes: 5,
  })
  for (const ceilings of [{}, { maxRetry: 0 }, ALL]) {
    expect(changedCeilings({ ...ALL, maxRetry: 9 }, changeTo(ceilings))).toEqual(ceilings)
  }
})
