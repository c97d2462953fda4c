import { pino } from 'pino'
import { beforeEach, describe, expect, it } from 'vitest'
import { JsonText } from '../../src/task/json.ts'
import type { Outcome } from '../../src/task/outcome.ts'
import { DoNotRetry, RateLimited, RetryAfter } from '../../src/task/retry.ts'
import { acceptedTask, completeSpec, TASK_LIMITS } from '../../src/task/task.ts'
import { Attempt, type AttemptHost, currentAttempt } from '../../src/worker/attempt.ts'
import type { Handler, HandlerContext, HandlerLease } from '../../src/worker/handler.ts'
import { normalizeHandlers } from '../../src/worker/handlers.ts'

let lines: { level: number; msg: string; [field: string]: unknown }[]
let outcomes: Outcome[]
let progress: unknown[]
let kept: string[]
let now: number
beforeEach(() => {
  lines = []
  outcomes = []
  progress = []
  kept = []
  now = 50
})

const LEASE = {} as HandlerLease
const HANDED = { id: 'a', type: 't', status: 'success', result: 1, error: null } as const
const OMITTED = { ...HANDED, id: 'b', result: null, omitted: true } as const
const host: AttemptHost = {
  logger: pino({ level: 'info', base: null }, { write: (line) => void lines.push(JSON.parse(line)) }),
  time: { now: () => now, elapsed: () => 7, after: () => () => undefined },
  held: () => LEASE,
  ended: (_, outcome) => void outcomes.push(outcome),
  progressed: (_, value) => void progress.push(value),
  logged: (_, line) => void kept.push(line),
  read: async (_, id) => (id === 'b' ? { ...HANDED, id, result: 2 } : null),
}

/** An attempt of a handler, not yet running. */
function attemptOf(
  run: (task: never, context: HandlerContext) => unknown,
  fields: Partial<Handler<never>> = {},
  more: object = {},
) {
  const handler = normalizeHandlers({ t: { run: run as never, ...fields } } as never).get('t')!
  const task = { ...acceptedTask(completeSpec({ type: 't', payload: { n: 1 } }), 'id', 1), attempts: 2 }
  const lease = { lease: 'id.1', task, deadlineAt: 100, expiresAt: 200, predecessors: [HANDED, OMITTED], ...more }
  return new Attempt(host, handler, lease as never, 3)
}
/** The outcome of a handler that does this, and the lines that its attempt logs. */
async function outcomeOf(...args: Parameters<typeof attemptOf>) {
  await attemptOf(...args).run()
  expect(outcomes).toHaveLength(1)
  return outcomes[0]
}
const failing = (thrown: unknown) => () => {
  throw thrown
}
const FAILURE = { kind: 'failure', retry: true, delayMs: null }
const FINAL = { ...FAILURE, retry: false }

describe('the outcome of an attempt', () => {
  const tooLong = TASK_LIMITS.resultBytesMax + 1
  it.each<[string, () => unknown, object]>([
    ['nothing', () => undefined, { kind: 'success', result: null }],
    ['null', () => null, { kind: 'success', result: null }],
    ['false', async () => false, { kind: 'success', result: new JsonText('false') }],
    ['an object', () => ({ a: [1] }), { kind: 'success', result: new JsonText('{"a":[1]}') }],
    [
      'the longest text',
      () => 'x'.repeat(TASK_LIMITS.resultBytesMax - 2),
      { kind: 'success', result: expect.any(JsonText) },
    ],
    [
      'a longer text',
      () => 'x'.repeat(tooLong - 2),
      { ...FINAL, error: `the result has ${tooLong} bytes, the maximum is ${tooLong - 1}: store it elsewhere` },
    ],
    [
      'what JSON cannot represent',
      () => ({ a: [new Map()] }),
      { ...FINAL, error: expect.stringMatching(/^the result cannot be written as JSON: result\.a\[0\] is a Map/) },
    ],
    [
      'what JSON refuses as a whole',
      () => ({ toJSON: failing(new TypeError('no')) }),
      { ...FINAL, error: 'the result cannot be written as JSON: TypeError: no' },
    ],
    ['an error', failing(new TypeError('no')), { ...FAILURE, error: expect.stringMatching(/^TypeError: no\n {4}at /) }],
    ['a text', failing('no'), { ...FAILURE, error: 'no' }],
    ['a final error', failing(new DoNotRetry('no')), { ...FINAL, error: expect.stringMatching(/^DoNotRetry: no/) }],
    [
      'a delay',
      failing(new RetryAfter(2)),
      { ...FAILURE, delayMs: 2_000, error: expect.stringMatching(/^RetryAfter/) },
    ],
    ['a hold', failing(new RateLimited({ for: 2 })), { kind: 'held', holdMs: 2_000, limit: null }],
  ])('is that of the handler: %s', async (_, run, outcome) => {
    expect(await outcomeOf(run)).toMatchObject(outcome)
  })

  it('fails for good if the payload does not match its schema', async () => {
    const validate = (payload: unknown) =>
      (payload as { n: number }).n === 1
        ? { value: 'parsed' }
        : { issues: [{ message: 'is wrong', path: ['n'] }, { message: 'is bad' }] }
    const payload = { '~standard': { version: 1, vendor: 'test', validate } } as never
    expect(await outcomeOf(({ payload }: { payload: unknown }) => payload, { payload })).toEqual({
      kind: 'success',
      result: new JsonText('"parsed"'),
    })
    outcomes = []
    const task = acceptedTask(completeSpec({ type: 't', payload: { n: 2 } }), 'id', 1)
    expect(await outcomeOf(() => 1, { payload }, { task })).toMatchObject({
      ...FINAL,
      error: expect.stringMatching(
        /^DoNotRetry: the payload does not match the handler's schema: n: is wrong; payload: is bad/,
      ),
    })
  })

  it.each<[string, (attempt: Attempt) => void, Outcome | null, string, string]>([
    [
      'a time-out',
      (attempt) => attempt.checkDeadline(100),
      { kind: 'timeout' },
      'TimeoutError',
      'the attempt timed out',
    ],
    ['a release', (attempt) => attempt.release(), { kind: 'released' }, 'AbortError', 'the worker is shutting down'],
    ['a lost lease', (attempt) => attempt.abandon(), null, 'AbortError', 'the lease was lost'],
  ])('is %s, whatever its handler does afterwards', async (_, end, outcome, name, message) => {
    const go = Promise.withResolvers<void>()
    const attempt = attemptOf(async (_task, { progress, log }) => {
      await go.promise
      progress(5)
      log.info('too late')
      throw new Error('too late')
    })
    const ran = attempt.run()
    await new Promise(setImmediate)
    end(attempt)
    expect(attempt.signal.reason).toMatchObject({ name, message })
    go.resolve()
    await ran
    attempt.checkDeadline(1_000)
    expect([outcomes, progress, kept]).toEqual([outcome ? [outcome] : [], [], []])
    const said =
      outcome?.kind === 'timeout'
        ? [{ level: 40, task_id: 'id', type: 't', attempt: 3, msg: 'an attempt timed out' }]
        : []
    expect(lines.filter(({ msg }) => msg !== 'too late')).toMatchObject(said)
  })

  it('is not a time-out before the deadline, nor without one', () => {
    const attempt = attemptOf(() => 1)
    attempt.checkDeadline(99)
    attemptOf(() => 1, {}, { deadlineAt: null }).checkDeadline(1_000)
    expect([outcomes, attempt.signal.aborted]).toEqual([[], false])
    expect([attempt.startedAt, attempt.since, attempt.slot]).toEqual([50, 7, 3])
  })

  it('is an error from outside of the promise of its handler', async () => {
    const attempt = attemptOf(
      (_task, { signal }) => new Promise((resolve) => signal.addEventListener('abort', resolve)),
    )
    const ran = attempt.run()
    await new Promise(setImmediate)
    attempt.fail(new Error('stray'))
    await ran
    expect(outcomes).toEqual([{ ...FAILURE, error: expect.stringMatching(/^Error: stray/) }])
    expect(attempt.signal.reason).toMatchObject({ message: 'stray' })
    expect(lines).toMatchObject([{ msg: 'an attempt failed', err: { message: 'stray' } }])
  })

  it('of a canceled task is that of its handler, and is not logged as failed', async () => {
    const attempt = attemptOf(failing(new Error('aborted')))
    attempt.cancel()
    await attempt.run()
    expect(attempt.signal.reason).toMatchObject({ name: 'AbortError', message: 'the task was canceled' })
    expect([outcomes.length, lines]).toEqual([1, []])
  })

  it('has the usage that the handler reports last, if it is valid and the attempt counts', async () => {
    const using =
      (...usages: unknown[]) =>
      (end: () => unknown) =>
      (_: never, { usage }: HandlerContext) => {
        for (const each of usages) usage(each as never)
        return end()
      }
    const first = { gpu: 1 }
    expect(await outcomeOf(using(first, { gpu: 2 }, { gpu: -1 })(() => null))).toEqual({
      kind: 'success',
      result: null,
      usage: { gpu: 2 },
    })
    const why = 'usage.gpu is -1: it must be an integer from 0 to 1000000'
    expect(lines).toMatchObject([{ level: 40, task_id: 'id', type: 't', why, msg: 'invalid usage was ignored' }])
    outcomes = []
    expect(await outcomeOf(using(first)(failing('no')))).toEqual({ ...FAILURE, error: 'no', usage: { gpu: 1 } })
    outcomes = []
    expect(await outcomeOf(using(first)(failing(new RateLimited({ for: 2 }))))).not.toHaveProperty('usage')
    outcomes = []
    expect(await outcomeOf(() => null)).not.toHaveProperty('usage')
  })
})

it('logs a failure with its error or reason, and what it holds', async () => {
  await attemptOf(failing(new TypeError('no'))).run()
  await attemptOf(() => new Map()).run()
  await attemptOf(failing(new RateLimited({ for: 2 }))).run()
  await attemptOf(failing(new RateLimited({ for: 2, limit: 'gpu' }))).run()
  await attemptOf(() => 1).run()
  const fields = { task_id: 'id', type: 't', attempt: 3 }
  const why = expect.stringMatching(/^RateLimited: rate limited for 2 s/)
  expect(lines).toMatchObject([
    { ...fields, level: 40, err: { name: 'TypeError', message: 'no' }, msg: 'an attempt failed' },
    { ...fields, level: 40, why: expect.stringMatching(/^the result cannot be written/), msg: 'an attempt failed' },
    { ...fields, level: 30, why, ms: 2_000, msg: 'a type is held' },
    { ...fields, level: 30, why, ms: 2_000, limit: 'gpu', msg: 'a limit is held' },
  ])
  expect(lines[2]).not.toHaveProperty('limit')
})

it('gives its handler the task, its lease, its predecessors and its log', async () => {
  const seen: unknown[] = []
  const attempt = attemptOf(async (task: { id: string; payload: unknown }, context) => {
    seen.push(task.id, task.payload, context.attempt, context.lease, context.predecessors, currentAttempt())
    seen.push(await context.predecessor('a'), await context.predecessor('b'))
    await context.predecessor('c').catch((error: Error) => seen.push(error.message))
    context.log.info({ n: 1 }, 'a line')
    context.progress(150)
    context.progress('half' as never)
    context.progress('half' as never)
  })
  await attempt.run()
  const unknown = 'this task has not waited for "c": give the id of one of its predecessors'
  const given = [
    'id',
    { n: 1 },
    3,
    LEASE,
    [HANDED, OMITTED],
    attempt,
    HANDED,
    { ...HANDED, id: 'b', result: 2 },
    unknown,
  ]
  expect(seen).toEqual(given)
  expect(currentAttempt()).toBeUndefined()
  const ignored = 'invalid progress was ignored'
  expect(progress).toEqual([100])
  const fields = { task_id: 'id', type: 't' }
  expect(lines).toMatchObject([
    { ...fields, attempt: 3, n: 1, msg: 'a line' },
    { ...fields, why: 'it is neither a number nor an object', msg: ignored },
  ])
  expect(kept.map((line) => JSON.parse(line))).toMatchObject([{ level: 'info', message: 'a line', fields: { n: 1 } }])
})
