import { runInNewContext } from 'node:vm'
import { describe, expect, it } from 'vitest'
import { DESCRIPTION_CHARS_MAX, describeError, errorOf } from '../../src/task/thrown.ts'

const UNKNOWN = 'a thrown value that cannot be described'
const withoutStack = (error: Error, more: object = {}) => Object.assign(error, { stack: undefined, ...more })
const throwing = (...fields: string[]) => {
  const error = new Error('hidden')
  for (const field of fields) {
    Object.defineProperty(error, field, {
      get: () => {
        throw new Error('no getter')
      },
    })
  }
  return error
}
const revoked = Proxy.revocable({}, {})
revoked.revoke()

describe('a thrown value', () => {
  it.each<[string, unknown, string]>([
    ['a text', 'no', 'no'],
    ['an empty text', '', UNKNOWN],
    ['a number', 7, '7'],
    ['nothing', undefined, 'undefined'],
    ['null', null, 'null'],
    ['a symbol', Symbol('odd'), 'Symbol(odd)'],
    ['an object', { code: 7 }, '{"code":7}'],
    ['a big number', 7n, '7n'],
    ['an error without a stack', withoutStack(new TypeError('no')), 'TypeError: no'],
    ['an error without a message', withoutStack(new TypeError('')), 'TypeError'],
    ['an error without a name', withoutStack(new Error('no'), { name: 7 }), 'Error: no'],
    ['an error with an empty name', withoutStack(new Error('no'), { name: '' }), 'Error: no'],
    ['an error of another realm', withoutStack(runInNewContext('new RangeError("far")')), 'RangeError: far'],
    ['something with a message', { message: 'like an error' }, 'Error: like an error'],
    ['something with a stack', { stack: 'a stack' }, 'a stack'],
    ['an error without all', withoutStack(new Error('no'), { message: 7 }), 'Error'],
    ['text that is not Unicode', 'a\ud83d', 'a\ufffd'],
  ])('is described: %s', (_, thrown, text) => expect(describeError(thrown)).toBe(text))

  it('is described as far as its fields can be read', () => {
    expect(describeError(throwing('stack'))).toBe('Error: hidden')
    expect(describeError(throwing('stack', 'name', 'message'))).toBe('Error')
    expect(describeError(throwing('cause', 'errors'))).toMatch(/^Error: hidden\n {4}at /)
    expect(describeError(revoked.proxy)).toBeTruthy()
  })

  it('is described with its causes and inner errors, in order', () => {
    const plain = (message: string, more: object = {}) => withoutStack(new Error(message), more)
    const deep = plain('a', { errors: [plain('b', { cause: plain('c') }), 'd'], cause: plain('e', { cause: 7 }) })
    expect(describeError(deep).split('\n')).toEqual([
      'Error: a',
      '[errors 0]: Error: b',
      '[cause]: Error: c',
      '[errors 1]: d',
      '[cause]: Error: e',
      '[cause]: 7',
    ])
    expect(describeError(plain('a', { cause: null }))).toBe('Error: a\n[cause]: null')
    const round = plain('a')
    expect(describeError(Object.assign(round, { cause: round }))).toBe('Error: a')
  })

  it('is described with five causes and ten inner errors at most', () => {
    const chain = [...'gfedcba'].reduce(
      (cause: Error | undefined, text) => withoutStack(new Error(text, { cause })),
      undefined,
    )
    expect(describeError(chain).match(/Error: \w/g)).toEqual([...'abcdef'].map((text) => `Error: ${text}`))
    const many = withoutStack(
      new AggregateError(
        Array.from({ length: 11 }, (_, at) => `${at}`),
        'many',
      ),
    )
    expect(describeError(many).split('\n')).toHaveLength(1 + 10)
    expect(describeError(withoutStack(new Error('no'), { errors: 'no list' }))).toBe('Error: no')
  })

  it('is described in a text of bounded length', () => {
    const long = 'x'.repeat(DESCRIPTION_CHARS_MAX)
    expect(describeError(`${long}y`)).toBe(long)
    const lists = Array.from({ length: 10 }, () => withoutStack(new Error(long, { cause: 'below' })))
    expect(describeError(withoutStack(new AggregateError(lists, 'many')))).toHaveLength(DESCRIPTION_CHARS_MAX)
  })
})

describe('the error of a thrown value', () => {
  it.each<[unknown, string, string]>([
    [new TypeError('no'), 'TypeError', 'no'],
    ['text', 'Error', 'text'],
    [withoutStack(new Error('a\ud83d'), { name: Symbol('Odd') }), 'Symbol(Odd)', 'a\ufffd'],
    [null, 'Error', 'null'],
    [{ stack: 'only' }, 'Error', ''],
    ['x'.repeat(DESCRIPTION_CHARS_MAX + 1), 'Error', 'x'.repeat(DESCRIPTION_CHARS_MAX)],
  ])('%# has a name, a message and the description as its stack', (thrown, name, message) => {
    const { stackTraceLimit } = Error
    expect(errorOf(thrown)).toBeInstanceOf(Error)
    expect(errorOf(thrown)).toMatchObject({ name, message, stack: describeError(thrown) })
    expect(errorOf(thrown, 'given').stack).toBe('given')
    expect([Error.stackTraceLimit, new Error('new').stack!.includes('\n    at ')]).toEqual([stackTraceLimit, true])
  })
})
