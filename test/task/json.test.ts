import fc from 'fast-check'
import { expect, it } from 'vitest'
import { parseJson } from '../../src/cli/output.ts'
import {
  canonical,
  faultIn,
  faultInText,
  ILL_FORMED,
  isJsonText,
  isTooDeep,
  JsonText,
  joined,
  readMarked,
  TOO_DEEP,
  textOf,
  write,
} from '../../src/task/json.ts'

const NUMBER = 'whose digits a number does not keep: send it as a string'

it.each([
  ['9007199254740993', ''],
  ['{"a":[1,{"b":-1234567890123456789}]}', 'a[1].b'],
  ['[1e400]', '[0]'],
  ['{"x":-1E+0400}', 'x'],
  ['{"x":1e-400}', 'x'],
  [`{"x":1${'0'.repeat(400)}}`, 'x'],
])('finds in %s the number that would change', (text, path) => {
  expect(faultInText(text)).toMatchObject({ path, message: expect.stringContaining(NUMBER) })
  expect(faultIn(readMarked(text))).toMatchObject({ path, message: expect.stringContaining(NUMBER) })
  expect(JSON.stringify(readMarked(text))).toBe(text)
})

it('finds nothing in any JSON that JavaScript writes', () => {
  const value = fc.jsonValue({ stringUnit: 'grapheme', noUnicodeString: false } as object)
  fc.assert(
    fc.property(value, (json) => {
      const text = JSON.stringify(json)
      expect(faultInText(text)).toBeNull()
      expect(faultIn(json)).toBeNull()
    }),
  )
  for (const number of [1e20, 2 ** 53, 1e21, 1.7976931348623157e308, 5e-324, -0, 0.1 + 0.2]) {
    expect(faultInText(JSON.stringify(number))).toBeNull()
  }
})

it('repairs lone surrogates and nothing else', () => {
  fc.assert(
    fc.property(fc.array(fc.string({ unit: 'binary' })), (texts) => {
      const outcome = write({ texts })
      const read = 'written' in outcome && JSON.parse(outcome.written.text)
      expect(read).toEqual({ texts: texts.map((text) => text.toWellFormed()) })
    }),
  )
  expect(write(['\\ud83d', '\ud83d', '\\\\ud83d'])).toEqual({
    written: expect.objectContaining({ text: JSON.stringify(['\\ud83d', '\ufffd', '\\\\ud83d']) }),
  })
})

it('counts levels of nesting outside strings', () => {
  const nested = (levels: number) => `${'['.repeat(levels)}${']'.repeat(levels)}`
  expect([isTooDeep(nested(128)), isTooDeep(nested(129))]).toEqual([false, true])
  expect(isTooDeep(JSON.stringify(['\\"', '['.repeat(300), '{"'.repeat(300)]))).toBe(false)
  expect([write(JSON.parse(nested(128))), write(JSON.parse(nested(129)))]).toMatchObject([
    { written: {} },
    { fault: { message: expect.stringContaining('levels') } },
  ])
  expect(isTooDeep(`["it ends with \\\\",${nested(129)}]`)).toBe(true)
  expect(faultInText(`[1e400,${nested(200_000)}]`)).toMatchObject({ message: /./ })
})

it('is used by the command line for payloads', () => {
  expect(parseJson('{"id":"9007199254740993"}', 'the payload')).toEqual({ id: '9007199254740993' })
  expect(() => parseJson('{"id":9007199254740993}', 'the payload')).toThrow(
    /^the payload: id is 9007199254740993.*string/,
  )
  expect(() => parseJson('"\\ud83d"', 'line 7')).toThrow(/^line 7 contains an unpaired surrogate/)
  expect(() => parseJson('{', 'line 7')).toThrow(/^line 7 is not valid JSON/)
})

it.each([
  [new Map([['a', 1]]), 'is a Map, which JSON writes as {}: use Object.fromEntries(map)', ''],
  [{ seen: [{}, new Set([1])] }, 'is a Set, which JSON writes as {}: use [...set]', 'seen[1]'],
])('refuses %o, whose content JSON would drop', (value, message, path) => {
  expect(write(value)).toEqual({ fault: { path, message } })
  expect(faultIn(value)).toEqual({ path, message })
})

it('serializes empty objects, and objects with toJSON', () => {
  const own = { toJSON: () => ({}), map: new Map() }
  expect(write([{}, own, new Date(0), [new Date(1)]])).toEqual({
    written: expect.objectContaining({ text: '[{},{},"1970-01-01T00:00:00.000Z",["1970-01-01T00:00:00.001Z"]]' }),
  })
})

const nestedIn = (levels: number, inner: unknown) =>
  Array.from({ length: levels }).reduce((value: unknown) => [value], inner)

it.each<[string, unknown, { path: string; message: string | RegExp } | null]>([
  ['text', 'text', null],
  ['what JSON omits', [undefined, () => 1, Symbol('s'), null, true], null],
  ['an inherited field', Object.create({ bad: Number.NaN }), null],
  ['128 levels', nestedIn(128, 1), null],
  ['129 levels', { a: nestedIn(128, 1) }, { path: '', message: TOO_DEEP }],
  ['NaN', Number.NaN, { path: '', message: 'is NaN, which JSON cannot represent: send it as a string' }],
  ['infinity', { a: [-1 / 0] }, { path: 'a[0]', message: /^is -Infinity, which/ }],
  [
    'a big integer',
    { a: { b: 1n } },
    { path: 'a.b', message: 'is a BigInt, which JSON cannot represent: send it as a string' },
  ],
  ['half a character', [['fine', '\ud83d']], { path: '[0][1]', message: ILL_FORMED }],
  ['half a character in a key', { a: { 'b\ud83d': 1 } }, { path: 'a.b\ufffd', message: ILL_FORMED }],
  ['a Set', { a: new Set() }, { path: 'a', message: /^is a Set/ }],
])('finds what JSON would not preserve in %s', (_, value, fault) => {
  const { message } = fault ?? {}
  const said = message instanceof RegExp ? expect.stringMatching(message) : message
  expect(faultIn(value)).toEqual(fault && { ...fault, message: said })
})

it.each<[string, unknown, string, string | RegExp]>([
  ['nothing', undefined, '', 'is a undefined, which JSON cannot represent'],
  ['a function', () => 1, '', 'is a function, which JSON cannot represent'],
  ['a big integer', { a: [1n] }, 'a[0]', /^is a BigInt, which JSON cannot represent/],
  ['too many levels', nestedIn(129, 1), '', TOO_DEEP],
  ['a Map in a list', [{ a: [new Map()] }], '[0].a[0]', /^is a Map, which JSON writes as/],
  ['levels that overflow the stack', nestedIn(100_000, 1), '', TOO_DEEP],
])('does not write %s', (_, value, path, message) => {
  expect(write(value)).toEqual({ fault: { path, message: expect.stringMatching(message) } })
})

it('says why a value with a cycle or a failing getter cannot be written', () => {
  const round: Record<string, unknown> = {}
  round.self = round
  const failing = {
    get a() {
      throw new Error('no getter')
    },
  }
  expect(write(round)).toEqual({
    fault: {
      path: '',
      message: expect.stringMatching(/^cannot be written as JSON: TypeError: .*circular structure to JSON$/),
    },
  })
  expect(write(failing)).toEqual({ fault: { path: '', message: 'cannot be written as JSON: Error: no getter' } })
})

it('writes a text that was written before as it is, also that of another copy of the package', () => {
  const written = new JsonText('[1]')
  const other = { text: '[2]', [Symbol.for('xqueue.JsonText')]: true }
  expect(write(written)).toEqual({ written })
  expect([written, other, { text: '[3]' }, null].map(isJsonText)).toEqual([true, true, false, false])
  expect([textOf(written), textOf(other as never), textOf([3])]).toEqual(['[1]', '[2]', '[3]'])
  expect(textOf({ text: '[3]' })).toBe('{"text":"[3]"}')
})

it.each([
  ['', 'a', 'a'],
  ['a', '', 'a'],
  ['a', 'b', 'a.b'],
  ['a', '[0]', 'a[0]'],
  ['', '[0].b', '[0].b'],
])('joins the paths %j and %j', (path, inner, whole) => expect(joined(path, inner)).toBe(whole))

it('writes equal values as the same text', () => {
  const value = { b: [1, { d: null, c: 'x' }], a: { f: true, e: -0.5 } }
  expect(canonical(value)).toBe('{"a":{"e":-0.5,"f":true},"b":[1,{"c":"x","d":null}]}')
  expect(canonical([2, 1])).toBe('[2,1]')
  expect(canonical({ 'a"': 1 })).toBe('{"a\\"":1}')
})

it.each([
  ['9007199254740991', null],
  ['9007199254740992', null],
  ['-9007199254740993', ''],
  ['123456789012345680000', null],
  ['1234567890123456789012', ''],
  ['[1.00000000000000001]', null],
  ['{"a":0e999}', null],
  ['{"a":[0.0,1e-999]}', 'a[1]'],
  ['"9007199254740993"', null],
  ['[1e400', null],
])('finds a number that would change in %s: %j', (text, path) => {
  expect(faultInText(text)).toEqual(path === null ? null : { path, message: expect.stringContaining(NUMBER) })
})

it('finds text that is not Unicode in JSON, unless only numbers are asked for', () => {
  const text = '{"a":["\\ud83d"]}'
  expect(faultInText(text)).toEqual({ path: 'a[0]', message: ILL_FORMED })
  expect(faultInText(text, { strings: false })).toBeNull()
  expect(faultInText(text.slice(1))).toBeNull()
  expect(faultInText('["\\uD83D\\uDE00"]')).toBeNull()
  expect(faultInText(`["\\ud83d",9007199254740993]`)?.path).toBe('[1]')
  const digits = '9'.repeat(60)
  expect(faultInText(digits)?.message).toBe(`is ${digits.slice(0, 40)}, ${NUMBER}`)
})
