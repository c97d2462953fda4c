import fc from 'fast-check'
import { expect, it } from 'vitest'
import { parseJson } from '../../src/cli/output.ts'
import { faultIn, faultInText, isTooDeep, readMarked, write } from '../../src/task/json.ts'

const NUMBER = 'which a number cannot represent: send it as a string'

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
