import { describe, expect, it } from 'vitest'
import { attemptJson, attemptOfJson, mayHaveAttempts } from '../../src/task/attempt.ts'
import { BOUNDS_LIMITS, boundsOf } from '../../src/task/bounds.ts'
import type { FieldError } from '../../src/task/errors.ts'
import { FINAL_STATUSES } from '../../src/task/status.ts'
import { TASK_LIMITS } from '../../src/task/task.ts'
import { specOf } from '../../src/task/task-input.ts'

/** The errors of an input as `path: message`. */
async function errorsOf(input: object): Promise<string[]> {
  const errors: FieldError[] = []
  await specOf({ type: 't', payload: null, ...input } as never, null, '', errors)
  return errors.map(({ path, message }) => `${path}: ${message}`)
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
  })
})
