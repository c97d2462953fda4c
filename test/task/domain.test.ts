import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { formatDuration, parseDurationMs } from '../../src/task/duration.ts'
import { XQueueError } from '../../src/task/errors.ts'
import { dueEnding, type Ending, type Running, settle } from '../../src/task/outcome.ts'
import { completeRetryPolicy, retryDelayMs, retryDelaysMs } from '../../src/task/retry.ts'
import { canMove, isFinal, STATUSES, TRANSITIONS } from '../../src/task/status.ts'
import { completeSpec, newTaskId, sameRequest, TYPE_PATTERN } from '../../src/task/task.ts'

const ending: fc.Arbitrary<Ending> = fc.oneof(
  fc.constant({ kind: 'success', result: 1 } as const),
  fc.record({
    kind: fc.constant('failure' as const),
    error: fc.string(),
    retry: fc.boolean(),
    delayMs: fc.option(fc.nat(), { nil: null }),
  }),
  fc.constant({ kind: 'timeout' } as const),
  fc.constant({ kind: 'released' } as const),
  fc.constant({ kind: 'lost' } as const),
)
const running: fc.Arbitrary<Running> = fc.record({
  attempts: fc.nat(10),
  lostLeases: fc.nat(6),
  maxRetry: fc.nat(10),
  runAt: fc.nat(1_000),
  deadlineAt: fc.option(fc.nat(2_000), { nil: null }),
  cancelRequested: fc.boolean(),
})
const policy = { delaysMs: [10, 20, 40], jitter: 0.5, lostLeasesMax: 5 }

describe('a status', () => {
  it('changes only as the table allows, and never leaves success', () => {
    expect(TRANSITIONS.success).toEqual([])
    for (const from of STATUSES)
      for (const to of STATUSES) expect(canMove(from, to)).toBe(TRANSITIONS[from].includes(to))
  })
})

describe('settle', () => {
  it('always makes a legal transition, and adds at most one attempt', () => {
    fc.assert(
      fc.property(running, ending, fc.nat(3_000), (task, how, now) => {
        const next = settle(task, how, policy, now, 0.5)
        expect(canMove('processing', next.status)).toBe(true)
        expect(next.attempts - task.attempts).toBeOneOf([0, 1])
        expect(next.timeoutReason !== null).toBe(next.status === 'timeout')
        if (task.cancelRequested) expect(next.status).toBe('canceled')
        if (how.kind === 'released' || how.kind === 'lost') expect(next.attempts).toBe(task.attempts)
      }),
    )
  })

  it('retries a failure maxRetry times and not once more', () => {
    fc.assert(
      fc.property(fc.nat(20), (maxRetry) => {
        const base = { lostLeases: 0, maxRetry, runAt: 0, deadlineAt: null, cancelRequested: false }
        let attempts = 0
        const failure = { kind: 'failure', error: 'no', retry: true, delayMs: null } as const
        for (;;) {
          const next = settle({ ...base, attempts }, failure, policy, 0, 0)
          attempts = next.attempts
          if (isFinal(next.status)) break
        }
        expect(attempts).toBe(maxRetry + 1)
      }),
    )
  })

  it('treats a success after the deadline as a time-out', () => {
    const task = { attempts: 0, lostLeases: 0, maxRetry: 0, runAt: 0, deadlineAt: 100, cancelRequested: false }
    expect(settle(task, { kind: 'success', result: 1 }, policy, 99, 0).status).toBe('success')
    expect(settle(task, { kind: 'success', result: 1 }, policy, 100, 0)).toMatchObject({
      status: 'timeout',
      timeoutReason: 'processing',
      result: null,
    })
  })
})

describe('the end of a lease', () => {
  const task = { attempts: 1, lostLeases: 2, maxRetry: 3, runAt: 5, deadlineAt: 100, cancelRequested: false }
  const same = { attempts: 1, lostLeases: 2, runAt: 5, result: null, error: null, timeoutReason: null }
  const ended = { ...same, attempts: 2 }
  const failure = { kind: 'failure', error: 'no', retry: true, delayMs: null } as const
  const held = { kind: 'held', error: 'full', holdMs: 7, limit: 'gpu' } as const
  const tooLong = 'the attempt ran longer than its process_timeout'
  const poison = 'poison: 5 workers were lost while they ran the task (max_deliveries)'
  const retried = { ...ended, status: 'pending', error: 'no', attempt: 'failed' } as const
  const timedOut = { ...ended, status: 'pending', error: tooLong, attempt: 'timeout', runAt: 99 + 15 } as const

  it.each<[string, Partial<Running>, Ending, object]>([
    ['a success', {}, { kind: 'success', result: 7 }, { ...ended, status: 'success', result: 7 }],
    ['a failure', {}, failure, { ...retried, runAt: 99 + 15 }],
    ['a failure with a delay', {}, { ...failure, delayMs: 0 }, { ...retried, runAt: 99 }],
    ['the last retry', { maxRetry: 2 }, failure, { ...retried, runAt: 99 + 15 }],
    ['a failure after it', { maxRetry: 1 }, failure, { ...ended, status: 'failed', error: 'no' }],
    ['a final failure', {}, { ...failure, retry: false }, { ...ended, status: 'failed', error: 'no' }],
    ['a failure too late', { deadlineAt: 99 }, { ...failure, retry: false }, timedOut],
    ['a time-out', {}, { kind: 'timeout' }, timedOut],
    [
      'the last time-out',
      { maxRetry: 1 },
      { kind: 'timeout' },
      { ...ended, status: 'timeout', error: tooLong, timeoutReason: 'processing' },
    ],
    ['a release', { deadlineAt: 0 }, { kind: 'released' }, { ...same, status: 'pending', attempt: 'released' }],
    [
      'a hold',
      { deadlineAt: 0 },
      held,
      { ...same, status: 'pending', attempt: 'held', error: 'full', holdMs: 7, heldLimit: 'gpu' },
    ],
    [
      'a hold of the type',
      {},
      { kind: 'held', error: 'full', holdMs: 7 },
      { ...same, status: 'pending', attempt: 'held', error: 'full', holdMs: 7, heldLimit: null },
    ],
    ['a lost worker', {}, { kind: 'lost' }, { ...same, lostLeases: 3, status: 'pending', attempt: 'lost' }],
    ['one too many', { lostLeases: 4 }, { kind: 'lost' }, { ...same, lostLeases: 5, status: 'failed', error: poison }],
    ['a cancel', { cancelRequested: true }, { kind: 'success', result: 7 }, { ...ended, status: 'canceled' }],
    ['a cancel of a lost one', { cancelRequested: true }, { kind: 'lost' }, { ...same, status: 'canceled' }],
    [
      'a cancel and a hold',
      { cancelRequested: true },
      held,
      { ...same, status: 'canceled', holdMs: 7, heldLimit: 'gpu' },
    ],
  ])('decides after %s', (_, state, how, next) => {
    expect(settle({ ...task, ...state }, how, policy, 99, 0.5)).toEqual(next)
  })

  it('takes a lease that is due without an outcome as lost, or as a time-out from its deadline on', () => {
    const due = (deadlineAt: number | null) => dueEnding({ deadlineAt }, 100).kind
    expect([due(null), due(101), due(100), due(99)]).toEqual(['lost', 'lost', 'timeout', 'timeout'])
  })
})

describe('retry delays', () => {
  it('grow from the base to the cap, and jitter only reduces them', () => {
    const retry = fc.record({
      baseMs: fc.nat(10_000),
      factor: fc.double({ min: 1, max: 10, noNaN: true }),
      capMs: fc.integer({ min: 10_000, max: 1_000_000 }),
      jitter: fc.double({ min: 0, max: 1, noNaN: true }),
    })
    fc.assert(
      fc.property(
        retry,
        fc.integer({ min: 1, max: 200 }),
        fc.double({ min: 0, max: 0.999, noNaN: true }),
        (p, n, random) => {
          const delays = retryDelaysMs(completeRetryPolicy(p))
          expect(delays).toEqual([...delays].sort((a, b) => a - b))
          const full = retryDelayMs(delays, 0, n, 0)
          const drawn = retryDelayMs(delays, p.jitter, n, random)
          expect(drawn).toBeLessThanOrEqual(full)
          expect(drawn).toBeGreaterThanOrEqual(Math.floor(full * (1 - p.jitter)))
          expect(full).toBeLessThanOrEqual(p.capMs)
        },
      ),
    )
  })

  it('are 1, 2, 4 … 256, 300 seconds by default', () => {
    const seconds = retryDelaysMs(completeRetryPolicy({})).map((ms) => ms / 1_000)
    expect(seconds).toEqual([1, 2, 4, 8, 16, 32, 64, 128, 256, 300])
  })
})

describe('a duration', () => {
  it('is read as it was written', () => {
    fc.assert(fc.property(fc.nat(366 * 86_400_000), (ms) => parseDurationMs(formatDuration(ms)) === ms))
    expect([0, 1, 999, 1_000, 5_400_000, 90_061_001].map(formatDuration)).toEqual([
      '0s',
      '1ms',
      '999ms',
      '1s',
      '1h30m',
      '1d1h1m1s1ms',
    ])
  })

  it.each([
    [90, 90_000],
    ['90', 90_000],
    ['90s', 90_000],
    ['1h30m', 5_400_000],
    ['250ms', 250],
    ['1.5s', 1_500],
    [0, 0],
    // Longer than none, which would mean no limit.
    [0.0001, 1],
    ['0.2ms', 1],
    ['1.6ms', 2],
    [' 2d ', 172_800_000],
    ['0d0h0ms', 0],
    ['366d', 366 * 86_400_000],
    [366 * 86_400, 366 * 86_400_000],
    [`${'1ms'.repeat(21)}`, 21],
  ])('is read from %j', (value, ms) => expect(parseDurationMs(value)).toBe(ms))

  it.each([-1, '-1s', '', 's', '1x', '1h 30m', Number.NaN, Number.POSITIVE_INFINITY, '400d', null, {}, '9'.repeat(99)])(
    'is refused as %j, with a remedy',
    (value) => expect(() => parseDurationMs(value)).toThrow(XQueueError),
  )

  it.each<[unknown, string]>([
    [-1, '-1 is negative'],
    ['soon', '"soon" is not a duration'],
    [`${'1ms'.repeat(22)}`, `"${'1ms'.repeat(22)}" is not a duration`],
    ['x'.repeat(99), `"${'x'.repeat(80)}" is not a duration`],
    [null, 'null is not a duration'],
    ['366d1ms', '"366d1ms" is longer than 366 days'],
  ])('says of %j what is wrong', (value, why) => {
    const message = `${why}: use seconds as a number, or units such as "90s" or "1h30m"`
    expect(() => parseDurationMs(value)).toThrow(expect.objectContaining({ code: 'invalid_duration', message }))
  })
})

describe('a task spec', () => {
  it('is the same request whatever the order of its fields and its key', () => {
    const one = completeSpec({ type: 't', payload: { a: 1, b: [2] }, idempotencyKey: 'x' })
    const two = completeSpec({ type: 't', payload: { b: [2], a: 1 }, idempotencyKey: 'y' })
    expect(sameRequest(one)).toBe(sameRequest(two))
    expect(sameRequest(one)).not.toBe(sameRequest({ ...two, payload: { a: 1, b: ['2'] } }))
  })

  it('has ids that sort by time', () => {
    const ids = Array.from({ length: 1_000 }, (_, index) => newTaskId(1_000_000 + Math.floor(index / 10)))
    expect(new Set(ids).size).toBe(1_000)
    expect(ids.filter((_, index) => index % 10 === 0)).toEqual(ids.filter((_, index) => index % 10 === 0).sort())
  })

  it('has a type that is safe in URLs, topics and keys', () => {
    for (const type of ['email', 'a.b:c_d-e', '0']) expect(type).toMatch(TYPE_PATTERN)
    for (const type of ['', 'a/b', 'a+', '#', 'é', '.a', 'a b', 'x'.repeat(101)]) expect(type).not.toMatch(TYPE_PATTERN)
  })
})
