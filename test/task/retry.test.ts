import { describe, expect, it } from 'vitest'
import { failureOf } from '../../src/task/outcome.ts'
import {
  completeRetryPolicy,
  DoNotRetry,
  delayOf,
  holdOf,
  RateLimited,
  RETRY_DEFAULTS,
  RetryAfter,
  type RetryPolicy,
  retryDelayMs,
  retryDelaysMs,
  retryOf,
} from '../../src/task/retry.ts'
import { TASK_LIMITS } from '../../src/task/task.ts'
import type { Handlers } from '../../src/worker/handler.ts'
import { checkPayload, normalizeHandlers } from '../../src/worker/handlers.ts'

it('keeps a first delay above the default cap, and refuses one above a cap that is set', () => {
  expect(retryDelaysMs(completeRetryPolicy({ baseMs: 3_600_000 }))).toEqual([3_600_000])
  expect(() => completeRetryPolicy({ baseMs: 2_000, capMs: 1_000 })).toThrow(
    /retry\.baseMs is 2000 and retry\.capMs 1000/,
  )
  expect(completeRetryPolicy({ baseMs: 1_000, capMs: 1_000 })).toMatchObject({ baseMs: 1_000, capMs: 1_000 })
})

describe('a retry policy', () => {
  it.each<Partial<RetryPolicy>>([
    {},
    { baseMs: 0 },
    { baseMs: 0, capMs: 0 },
    { factor: 1 },
    { factor: 100 },
    { jitter: 0 },
    { jitter: 1 },
  ])('may be %j', (policy) => expect(completeRetryPolicy(policy)).toEqual({ ...RETRY_DEFAULTS, ...policy }))

  it.each<[keyof RetryPolicy, number, string]>([
    ['baseMs', -1, 'a duration of 0 or more'],
    ['baseMs', Number.POSITIVE_INFINITY, 'a duration of 0 or more'],
    ['baseMs', Number.NaN, 'a duration of 0 or more'],
    ['capMs', -1, 'a duration of 0 or more'],
    ['capMs', Number.POSITIVE_INFINITY, 'a duration of 0 or more'],
    ['factor', 0.99, 'a number from 1 to 100'],
    ['factor', 100.1, 'a number from 1 to 100'],
    ['factor', Number.NaN, 'a number from 1 to 100'],
    ['jitter', -0.01, 'a number from 0 to 1'],
    ['jitter', 1.01, 'a number from 0 to 1'],
    ['jitter', Number.NaN, 'a number from 0 to 1'],
  ])('does not have %s: %d', (field, value, allowed) => {
    const message = `retry.${field} is ${value}: it must be ${allowed}`
    expect(() => completeRetryPolicy({ [field]: value })).toThrow(
      expect.objectContaining({ code: 'invalid_handlers', message }),
    )
  })

  it('has few delays, of which the last one repeats', () => {
    const delays = retryDelaysMs(completeRetryPolicy({ baseMs: 1, factor: 1.01, capMs: 1e9 }))
    expect([delays.length, delays.every(Number.isInteger)]).toEqual([32, true])
    expect(retryDelaysMs(completeRetryPolicy({ baseMs: 0 }))).toEqual([0])
    const at = (retry: number) => retryDelayMs([10, 20, 40], 0.5, retry, 0.5)
    expect([1, 2, 3, 4, 99].map(at)).toEqual([8, 15, 30, 30, 30])
    expect(retryDelayMs([], 0, 1, 0)).toBe(0)
  })
})

const BACK_OFF = { retry: true, delayMs: null, unusable: null }
const YEAR = 'use at most 366 days'
const DAY = 'use more than 0 s and at most 24 hours'

describe('the decision of an error', () => {
  it.each<[string, unknown, object]>([
    ['an error', new Error('no'), BACK_OFF],
    ['null', null, BACK_OFF],
    ['DoNotRetry', new DoNotRetry('no'), { ...BACK_OFF, retry: false }],
    ['seconds', new RetryAfter(90), { ...BACK_OFF, delayMs: 90_000 }],
    ['part of a second', new RetryAfter(0.0015), { ...BACK_OFF, delayMs: 2 }],
    ['a text', new RetryAfter('1h30m'), { ...BACK_OFF, delayMs: 5_400_000 }],
    ['a time in the past', new RetryAfter(-5), { ...BACK_OFF, delayMs: 0 }],
    ['a year', new RetryAfter('366d'), { ...BACK_OFF, delayMs: TASK_LIMITS.durationMsMax }],
    ['over a year', new RetryAfter(366 * 86_400 + 1), { unusable: `the delay 31622401 s is not valid, ${YEAR}` }],
    ['no number', new RetryAfter(Number.NaN), { delayMs: null, unusable: `the delay NaN s is not valid, ${YEAR}` }],
    ['no time', new RetryAfter('soon'), { delayMs: null, unusable: `the delay soon is not valid, ${YEAR}` }],
    ['nothing', new RetryAfter(null as never), { delayMs: null, unusable: `the delay null is not valid, ${YEAR}` }],
    ['no text', new RetryAfter({} as never), { delayMs: null, unusable: `the delay object is not valid, ${YEAR}` }],
    ['a hold', new RateLimited({ for: 20 }), { ...BACK_OFF, holdMs: 20_000, limit: null }],
    ['a limit', new RateLimited({ for: '1d', limit: 'gpu' }), { ...BACK_OFF, holdMs: 86_400_000, limit: 'gpu' }],
    [
      'over a day',
      new RateLimited({ for: 86_401 }),
      { holdMs: null, unusable: `the hold of 86401 s is not valid, ${DAY}` },
    ],
    [
      'no time to hold',
      new RateLimited({ for: 0 }),
      { holdMs: null, unusable: `the hold of 0 s is not valid, ${DAY}` },
    ],
    ['a past hold', new RateLimited({ for: -1 }), { holdMs: null, unusable: `the hold of -1 s is not valid, ${DAY}` }],
    ['the text of no time', new RateLimited({ for: '0s' }), { holdMs: null }],
    ['a tiny hold', new RateLimited({ for: 1e-9 }), { holdMs: 1 }],
    ['no limit', Object.assign(new RateLimited({ for: 1 }), { limit: 7 }), { holdMs: 1_000, limit: null }],
    ['no options', new RateLimited(undefined as never), { holdMs: null, limit: null }],
  ])('that gives %s', (_, thrown, retry) => expect(retryOf(thrown)).toMatchObject(retry))

  it('is the back-off if its time cannot be read', () => {
    const thrown = new RetryAfter(1)
    Object.defineProperty(thrown, 'delay', {
      get: () => {
        throw new Error('no')
      },
    })
    expect(retryOf(thrown)).toEqual({ ...BACK_OFF, unusable: 'its time cannot be read' })
  })

  it('has a message, a name and a cause', () => {
    const cause = new Error('below')
    const later = new RetryAfter('90s', undefined, { cause })
    expect(later).toMatchObject({
      name: 'RetryAfter',
      message: 'retry after 90s',
      delay: '90s',
      delayMs: 90_000,
      cause,
    })
    expect(new RetryAfter(5, 'later').message).toBe('later')
    expect(new RetryAfter('x'.repeat(99)).message).toBe(`retry after ${'x'.repeat(80)}`)
    expect(new RateLimited({ for: 5 })).toMatchObject({ name: 'RateLimited', message: 'rate limited for 5 s', for: 5 })
    expect(new RateLimited({ for: 5, limit: 'gpu' }, 'full')).toMatchObject({ message: 'full', limit: 'gpu' })
    expect(new DoNotRetry('no', { cause })).toMatchObject({ name: 'DoNotRetry', message: 'no', cause })
  })

  it('may be given in milliseconds', () => {
    expect(delayOf(1.5)).toEqual({ delayMs: 2, unusable: null })
    expect(delayOf('1')).toEqual({ delayMs: null, unusable: `the delay 1 ms is not valid, ${YEAR}` })
    expect(holdOf(TASK_LIMITS.holdMsMax)).toEqual({ holdMs: TASK_LIMITS.holdMsMax, unusable: null })
    for (const holdMs of [TASK_LIMITS.holdMsMax + 1, 0, -1, Number.NaN])
      expect(holdOf(holdMs)).toEqual({ holdMs: null, unusable: `the hold of ${holdMs} ms is not valid, ${DAY}` })
  })
})

describe('the outcome of an error', () => {
  const error = 'e'.repeat(TASK_LIMITS.errorCharsMax)
  it.each<[string, Parameters<typeof failureOf>[1], object]>([
    ['a failure', BACK_OFF, { kind: 'failure', error, retry: true, delayMs: null }],
    ['with a delay', { ...BACK_OFF, delayMs: 5 }, { kind: 'failure', error, retry: true, delayMs: 5 }],
    ['a hold', { ...BACK_OFF, holdMs: 1_001, limit: 'gpu' }, { kind: 'held', error, holdMs: 1_001, limit: 'gpu' }],
    ['a short hold', { ...BACK_OFF, holdMs: 1 }, { kind: 'held', error, holdMs: 1_000, limit: null }],
  ])('is %s, and its text is cut', (_, retry, outcome) => expect(failureOf(`${error}!`, retry)).toEqual(outcome))

  it('says why its time is not used', () => {
    const { error } = failureOf('no', { ...BACK_OFF, unusable: 'too long' }) as { error: string }
    expect(error).toBe("(too long: the type's back-off applies) no")
  })
})

it('names the path of a value that a validator refuses, whatever its keys are', async () => {
  const validate = () => ({
    issues: [{ message: 'is wrong', path: [{ key: { of: 'map' } }, { key: Symbol('s') }, 'list', 0] }],
  })
  const payload = { '~standard': { version: 1, vendor: 'test', validate } }
  const handler = normalizeHandlers({ t: { payload, run: () => null } } as unknown as Handlers).get('t')!
  expect(await checkPayload(handler, {})).toEqual([{ path: 'payload.{"of":"map"}.s.list.0', message: 'is wrong' }])
})
