import { describe, expect, it } from 'vitest'
import {
  ATTEMPT_OUTCOMES,
  allAttempts,
  attemptJson,
  attemptOf,
  attemptOfJson,
  attemptText,
  isRepeated,
  mayHaveAttempts,
  type TaskAttempt,
} from '../../src/task/attempt.ts'
import { allows, BOUNDS_LIMITS, boundsOf, boundsText } from '../../src/task/bounds.ts'
import type { FieldError, XQueueError } from '../../src/task/errors.ts'
import { FINAL_STATUSES } from '../../src/task/status.ts'
import { completeSpec, TASK_LIMITS } from '../../src/task/task.ts'
import { type KnownType, refuseManyEdges, refuseTaskLimits, specOf, throwErrors } from '../../src/task/task-input.ts'

/** The errors of an input as `path: message`. */
async function errorsOf(input: object, known: Partial<KnownType> | null = null, at = '', place = 0): Promise<string[]> {
  const errors: FieldError[] = []
  const type = known && { defaults: {}, ceilings: {}, check: () => [], ...known }
  await specOf({ type: 't', payload: null, ...input } as never, type, at, errors, place)
  return errors.map(({ path, message }) => `${path}: ${message}`)
}

/** The error that a function throws. */
function thrownBy(run: () => void): unknown {
  try {
    run()
  } catch (error) {
    return error
  }
  return null
}

describe('a task from outside', () => {
  it('has a payload of at most 1 MiB', async () => {
    const most = TASK_LIMITS.payloadBytesMax
    expect(await errorsOf({ payload: 'x'.repeat(most - 2) })).toEqual([])
    const tooLong = specOf({ type: 't', payload: 'x'.repeat(most - 1) } as never, null, '', [])
    await expect(tooLong).rejects.toMatchObject({
      code: 'too_large',
      message: expect.stringMatching(`payload has ${most + 1} bytes, the maximum is ${most}`),
    })
  })

  it('has either a delay or a time, at most 366 days ahead', async () => {
    const at = (ms: number) => new Date(Date.now() + ms).toISOString()
    expect(await errorsOf({ run_at: at(60_000) })).toEqual([])
    expect(await errorsOf({ run_at: at(60_000), delay: 1 })).toEqual(['run_at: cannot be given together with delay'])
    expect(await errorsOf({ run_at: at(367 * 86_400_000) })).toEqual(['run_at: is more than 366 days ahead'])
    expect(await errorsOf({ run_at: 'soon' })).toEqual([expect.stringContaining('run_at: must be an RFC 3339 time')])
  })

  it('has names without control characters', async () => {
    expect(await errorsOf({ group: 'a b', batch: 'c d' })).toEqual([])
    expect(await errorsOf({ group: 'a\n' })).toEqual(['group: must not contain control characters'])
    expect(await errorsOf({ batch: 'a\u0000' })).toEqual(['batch: must not contain control characters'])
  })

  it('has durations with a remedy, each under its name', async () => {
    for (const field of ['delay', 'queue_timeout', 'process_timeout']) {
      expect(await errorsOf({ [field]: '1m' })).toEqual([])
      expect(await errorsOf({ [field]: 'soon' }, null, 'tasks[2].')).toEqual([
        expect.stringMatching(`tasks\\[2\\].${field}: "soon" is not a duration`),
      ])
    }
  })

  it('waits for ids, and in a batch for earlier positions', async () => {
    const alone = 'submitted alone: use the ids of tasks, or submit the tasks together as a batch'
    expect(await errorsOf({ after: ['a', 'b'] })).toEqual([])
    expect(await errorsOf({ after: ['a', 0] })).toEqual([
      `after[1]: is the position 0 in a batch, but this task is ${alone}`,
    ])
    const inBatch = (after: number[]) => errorsOf({ after }, null, 'tasks[2].', 2)
    const earlier = 'a task can wait for earlier tasks of its batch only, so move it behind them'
    expect(await inBatch([0, 1])).toEqual([])
    expect(await inBatch([0, 2, 3])).toEqual([`tasks[2].after[1]: is 2, the position of this task itself: ${earlier}`])
    expect(await inBatch([3])).toEqual([`tasks[2].after[0]: is 3, but this task has the position 2: ${earlier}`])
  })

  it('has at most 20,000 predecessors in one call', () => {
    const tasks = (...counts: number[]) => counts.map((count) => ({ after: Array(count).fill('a') }))
    const most = TASK_LIMITS.edgesMax
    expect(thrownBy(() => refuseManyEdges([...tasks(most - 1, 1), null, { after: 'no list' }, {}]))).toBeNull()
    expect(thrownBy(() => refuseManyEdges(tasks(most, 1)))).toMatchObject({
      code: 'too_large',
      message: expect.stringMatching(
        `^.after. has ${most + 1} entries in all tasks of this call, the maximum is ${most}`,
      ),
    })
  })

  it.each(['concurrency_key', 'max_concurrency'])('does not set %s, which belongs to its type', (field) => {
    expect(thrownBy(() => refuseTaskLimits({ type: 't', [field]: 1 }))).toMatchObject({
      code: 'type_owns_limits',
      message: expect.stringMatching(
        `^${field} is not a field of a task: set it for the whole type with POST /api/v1/con`,
      ),
      errors: [{ path: field, message: 'limits belong to the task type' }],
    })
    for (const body of [{ type: 't' }, null, 'text', 1]) expect(thrownBy(() => refuseTaskLimits(body))).toBeNull()
  })

  it('has a payload that its type accepts, which is asked for only if all else is valid', async () => {
    const checked: unknown[] = []
    const known = {
      check: (payload: unknown) => {
        checked.push(payload)
        return [{ path: 'payload.a', message: 'is wrong' }]
      },
    }
    expect(await errorsOf({ payload: { a: 1 } }, known, 'tasks[0].')).toEqual(['tasks[0].payload.a: is wrong'])
    expect(await errorsOf({ payload: 2, delay: 'soon' }, known)).toHaveLength(1)
    expect(checked).toEqual([{ a: 1 }])
  })

  it('is above a ceiling only if all else is valid', async () => {
    const ceilings = { priority: 1 }
    expect(await errorsOf({ priority: 2 }, { ceilings })).toEqual([expect.stringMatching(/^priority: is 2, above/)])
    expect(await errorsOf({ priority: 2, group: '\n' }, { ceilings })).toHaveLength(1)
  })

  it('has a payload that JSON preserves', async () => {
    const deep = JSON.parse(`${'['.repeat(129)}${']'.repeat(129)}`)
    expect(await errorsOf({ payload: { a: ['\ud83d'] } })).toEqual([
      expect.stringMatching(/^payload.a\[0\]: contains an unp/),
    ])
    expect(await errorsOf({ payload: '\ud83d' })).toEqual([expect.stringMatching(/^payload: contains an unpaired/)])
    expect(await errorsOf({ payload: '\\ud83d' })).toEqual([])
    expect(await errorsOf({ payload: deep })).toEqual(['payload: is nested deeper than 128 levels'])
  })

  it('uses what it says, or what the function of its handler computes', async () => {
    const defaults = { usesOfPayload: true, maxRetry: 7 } as const
    const specWith = async (input: object, usesOf: NonNullable<KnownType['usesOf']> | null) => {
      const errors: FieldError[] = []
      const known = { defaults, ceilings: {}, check: () => [], usesOf }
      const { uses, maxRetry, byDefault } = await specOf({ type: 't', ...input } as never, known, 'at.', errors)
      expect([maxRetry, byDefault?.includes('uses')]).toEqual([7, !('uses' in input)])
      return errors.length === 0 ? uses : errors.map(({ path, message }) => `${path}: ${message}`)
    }
    const ofSize = (payload: unknown) => ({ gpu: (payload as { size: number }).size })
    expect(await specWith({ payload: { size: 3 } }, ofSize)).toEqual({ gpu: 3 })
    expect(await specWith({ payload: { size: 3 }, uses: { cpu: 1 } }, ofSize)).toEqual({ cpu: 1 })
    expect(await specWith({ uses: { cpu: 1 } }, null)).toEqual({ cpu: 1 })
    expect(await specWith({ payload: { size: 0 } }, ofSize)).toEqual([
      expect.stringMatching(/^at.uses.gpu: is 0: it must/),
    ])
    expect(await specWith({ uses: { cpu: 0 } }, ofSize)).toEqual([expect.stringMatching(/^at.uses.cpu: is 0: it must/)])
    expect(await specWith({}, null)).toEqual([
      'at.uses: is required: the handler of "t" computes it, and this server does not have the handler: ' +
        'start it with --handlers, or give `uses`',
    ])
    const fails = (thrown: unknown) => () => {
      throw thrown
    }
    const cannot = 'at.uses: cannot be computed from the payload: '
    expect(await specWith({}, fails(new Error('x'.repeat(201))))).toEqual([`${cannot}${'x'.repeat(200)}`])
    expect(await specWith({}, fails('text'))).toEqual([`${cannot}string`])
    expect(await specWith({ group: '\n' }, fails('text'))).toEqual([expect.stringMatching(/^at.group/)])
  })

  it('is complete: the highest priority is 9, a time in the past is due, and defaults are named', async () => {
    const spec = (input: object) => specOf({ type: 't', ...input } as never, null, '', [])
    const all = { max_retry: 1, queue_timeout: 2, process_timeout: '3s', uses: { gpu: 1 } }
    const names = ['maxRetry', 'queueTimeoutMs', 'processTimeoutMs', 'uses']
    expect(await spec({})).toEqual({ ...completeSpec({ type: 't' }), byDefault: names })
    const given = { maxRetry: 1, queueTimeoutMs: 2_000, processTimeoutMs: 3_000, uses: { gpu: 1 } }
    expect(await spec(all)).toMatchObject({ ...given, byDefault: [] })
    expect((await spec({ max_retry: 0 })).byDefault).toEqual(names.slice(1))
    expect((await spec({ priority: 10 })).priority).toBe(9)
    expect((await spec({ priority: 0 })).priority).toBe(0)
    expect((await spec({ run_at: '0001-01-01T00:00:00Z' })).runAt).toBe(0)
    expect((await spec({ run_at: '1970-01-01T00:00:01Z' })).runAt).toBe(1_000)
    const rest = { tags: { a: 'b' }, group: 'g', after: ['x'], batch: 'b' }
    const others = { delay: 1.5, idempotency_key: 'k', on_failure: 'run' }
    const named = { ...rest, delayMs: 1_500, idempotencyKey: 'k', onFailure: 'run' }
    expect(await spec({ ...rest, ...others })).toMatchObject(named)
  })

  it('is refused with the first of its errors; errors of the payload alone have a code of their own', () => {
    const errors = (...paths: string[]) => paths.map((path) => ({ path, message: 'is wrong' }))
    const code = (...paths: string[]) => (thrownBy(() => throwErrors(errors(...paths))) as XQueueError).code
    expect(thrownBy(() => throwErrors([]))).toBeNull()
    expect(code('payload', 'tasks[1].payload.a')).toBe('invalid_payload')
    expect(code('payload', 'group')).toBe('invalid_request')
    expect(code('payloads')).toBe('invalid_request')
    expect(code('tags.xpayload')).toBe('invalid_request')
    const both = errors('group', 'batch')
    expect(thrownBy(() => throwErrors(both))).toMatchObject({ message: 'group is wrong', errors: both })
  })
})

describe('the bounds of a key', () => {
  it('are lists of names, each once', () => {
    expect(boundsOf(undefined, undefined)).toBeNull()
    expect(boundsOf(['a', 'b*', 'a'], undefined)).toEqual({ types: ['a', 'b*'], groups: null })
    expect(boundsOf(undefined, ['g'])).toEqual({ types: null, groups: ['g'] })
  })

  it.each<[string[] | undefined, string[] | undefined, RegExp]>([
    [[], undefined, new RegExp(`types has 0 names: use 1 to ${BOUNDS_LIMITS.types}`)],
    [Array(BOUNDS_LIMITS.types + 1).fill('a'), undefined, /types has \d+ names/],
    [['a b'], undefined, /types has "a b": each name must be a task type, or a prefix of one followed by \*/],
    [undefined, ['\n'], /groups has "\\n": each name must be 1 to 128 characters/],
  ])('refuse %j and %j', (types, groups, message) => {
    expect(() => boundsOf(types, groups)).toThrow(message)
  })

  it('may have as many names as the maximum', () => {
    const names = (most: number) => Array.from({ length: most }, (_, at) => `n${at}`)
    const bounds = { types: names(BOUNDS_LIMITS.types), groups: names(BOUNDS_LIMITS.groups) }
    expect(boundsOf(bounds.types, bounds.groups)).toEqual(bounds)
    const tooMany = new RegExp(`groups has ${BOUNDS_LIMITS.groups + 1} names: use 1 to ${BOUNDS_LIMITS.groups}`)
    expect(() => boundsOf(undefined, names(BOUNDS_LIMITS.groups + 1))).toThrow(tooMany)
  })

  it.each<[string[] | null, string[] | null, string, string | null, boolean]>([
    [null, null, 't', null, true],
    [['a', 'b.*'], null, 'a', 'g', true],
    [['a', 'b.*'], null, 'ab', null, false],
    [['a', 'b.*'], null, 'b.c', null, true],
    [['a', 'b.*'], null, 'b', null, false],
    [null, ['g'], 't', 'g', true],
    [null, ['g'], 't', 'h', false],
    [null, ['g'], 't', null, false],
    [['a'], ['g'], 'a', 'h', false],
    [['a'], ['g'], 'b', 'g', false],
  ])('types %j and groups %j allow the type %s in the group %j: %j', (types, groups, type, group, isAllowed) => {
    expect(allows({ types, groups }, { type, group })).toBe(isAllowed)
  })

  it('that are equal have one text', () => {
    const text = boundsText({ types: ['b', 'a', 'b'], groups: null })
    expect(text).toBe(boundsText({ types: ['a', 'b'], groups: null }))
    expect(text).not.toBe(boundsText({ types: null, groups: ['a', 'b'] }))
  })
})

describe('the attempts of a task', () => {
  it('may be kept unless the first one succeeded, or none was made', () => {
    const may = (status: string, deliveries: number) => mayHaveAttempts({ status, deliveries } as never)
    for (const status of ['pending', 'processing', ...FINAL_STATUSES]) {
      expect([status, may(status, 0)]).toEqual([status, false])
      expect([status, may(status, 1)]).toEqual([status, status !== 'success'])
      expect([status, may(status, 2)]).toEqual([status, true])
    }
  })

  it('are the same after they were JSON', () => {
    const json = { delivery: 2, worker_id: 'w', started_at: '2030-01-01T00:00:00.001Z', ended_at: null }
    expect(attemptJson(attemptOfJson(json as never))).toMatchObject(json)
    const ended = { ...json, ended_at: '2030-01-01T00:00:00.002Z' }
    expect(attemptJson(attemptOfJson(ended as never))).toMatchObject(ended)
  })

  const KEPT: TaskAttempt = {
    number: 1,
    delivery: 1,
    outcome: 'failed',
    workerId: 'v',
    startedAt: 5,
    endedAt: 6,
    error: 'no',
  }

  it('are the same after they were stored', () => expect(attemptOf(attemptText(KEPT))).toEqual(KEPT))

  it('replace one that was held or released for the same reason', () => {
    const repeated = ATTEMPT_OUTCOMES.filter((outcome) => isRepeated(outcome, outcome))
    expect(repeated).toEqual(['released', 'held'])
    expect([isRepeated('held', 'released'), isRepeated('released', undefined)]).toEqual([false, false])
  })

  const task = { attempts: 1, deliveries: 2, workerId: 'w', startedAt: 10, completedAt: 20, error: 'last' }
  const run = { delivery: 2, workerId: 'w', startedAt: 10 }
  it.each<[object, object | null]>([
    [{ status: 'pending' }, null],
    [{ status: 'canceled', startedAt: null }, null],
    [{ status: 'processing' }, { ...run, number: 2, outcome: 'running', endedAt: null, error: null }],
    [{ status: 'failed' }, { ...run, number: 1, outcome: 'failed', endedAt: 20, error: 'last' }],
    // It was canceled while it ran, so the attempt does not count.
    [
      { status: 'canceled', attempts: 0 },
      { ...run, number: 1, outcome: 'canceled', endedAt: 20, error: 'last' },
    ],
  ])('of a task that is %j end with %j', (state, last) => {
    const all = allAttempts({ ...task, ...state } as never, { attempts: [KEPT], leftOut: 3 })
    expect(all).toEqual({ attempts: last ? [KEPT, last] : [KEPT], leftOut: 3 })
    const kept = { attempts: [{ ...KEPT, delivery: 2 }], leftOut: 0 }
    expect(allAttempts({ ...task, ...state } as never, kept)).toEqual(kept)
  })
})
