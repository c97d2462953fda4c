import { describe, expect, it } from 'vitest'
import { root } from '../fixtures/root.ts'
import { definitionsOf } from './definitions.ts'
import { MUTATIONS, placeOf } from './mutations.ts'

it('each mutation of `npm run test:mutations` matches exactly one place, and changes it', () => {
  const lost = MUTATIONS.flatMap((mutation) => {
    try {
      const { before, after } = placeOf(mutation, root)
      return before === after ? [`${mutation.store}, ${mutation.rule}: changes nothing`] : []
    } catch (error) {
      return [(error as Error).message]
    }
  })
  expect(lost).toEqual([])
})

it('each store has at least 40 mutations, and each rule one', () => {
  for (const name of ['SQLite', 'Redis'] as const) {
    const rules = MUTATIONS.filter(({ store }) => store === name).map(({ rule }) => rule)
    expect(rules.length).toBeGreaterThanOrEqual(40)
    expect(new Set(rules).size).toBe(rules.length)
  }
})

describe('finds definitions, each from its first line to its last', () => {
  const textOf = (text: string, language: 'ts' | 'lua' | 'sql') =>
    definitionsOf(text, language).map(({ name, start, end }) => [name, text.slice(start, end)])

  it('in TypeScript', () => {
    const method = '  async #claim(\n    a: number,\n  ): Promise<void> {\n    if (a) {\n      b()\n    }\n  }\n'
    const constant = 'export const LIST = [\n  1,\n] as const\n'
    const text = `class A {\n${method}}\n${constant}const one = 1\n`
    expect(textOf(text, 'ts')).toEqual([
      ['claim', method],
      ['LIST', constant],
      ['one', 'const one = 1\n'],
    ])
  })

  it('in Lua', () => {
    const inner = '  local function inner(x)\n    return x\n  end\n'
    const outer = `local function outer(a)\n${inner}\n  return inner(a)\nend\n`
    expect(textOf(`${outer}return 1\n`, 'lua')).toEqual([
      ['outer', outer],
      ['inner', inner],
    ])
  })

  it('in SQL', () => {
    const [first, second] = ['-- name: first\nSELECT 1;\n\n', '-- name: second\nSELECT 2;\n']
    expect(textOf(first + second, 'sql').map(([name]) => name)).toEqual(['first', 'second'])
  })
})
