import { definitionsOf } from '../mutations/definitions.ts'
import { withInserted } from './inserted.ts'
import type { Change } from './mutants.ts'

/** Comments and texts, which are left alone, before anything else. */
const SKIPPED = { lua: /--[^\n]*|'(?:\\.|[^'\\])*'/y, sql: /--[^\n]*|'[^']*'/y }

const TOKENS: Readonly<Record<'lua' | 'sql', readonly [pattern: RegExp, to: string][]>> = {
  lua: [
    [/==/y, '~='],
    [/~=/y, '=='],
    [/<=/y, '<'],
    [/>=/y, '>'],
    [/<(?!=)/y, '<='],
    [/>(?!=)/y, '>='],
    [/\band\b/y, 'or'],
    [/\bor\b/y, 'and'],
    [/\bnot /y, ''],
    [/\btrue\b/y, 'false'],
    [/\bfalse\b/y, 'true'],
    [/(?<=[\w)\]] )\+(?= )/y, '-'],
    [/(?<=[\w)\]] )-(?= )/y, '+'],
  ],
  sql: [
    [/<=/y, '<'],
    [/>=/y, '>'],
    [/<>/y, '='],
    [/<(?![=>])/y, '<='],
    [/>(?!=)/y, '>='],
    [/(?<= )=(?= )/y, '<>'],
    [/\bAND\b/y, 'OR'],
    [/\bOR\b/y, 'AND'],
    [/\bIS NOT NULL\b/y, 'IS NULL'],
    [/\bIS NULL\b/y, 'IS NOT NULL'],
    [/ DESC\b/y, ''],
    [/\bmin\(/y, 'max('],
    [/\bmax\(/y, 'min('],
    [/(?<= )\+(?= )/y, '-'],
    [/(?<= )-(?= )/y, '+'],
  ],
}
/** A whole line that calls something, or ends a function with a value. */
const LUA_CALL = /^[ \t]*([a-z][\w.]*\(.*\))$/gm
const LUA_RETURN = /^[ \t]*return (?!function)(\S.*)$/gm

/** The mutants of SQL or Lua, by the same operators, found without a parser: what is in texts and comments stays. */
export function mutantsOfTokens(text: string, language: 'lua' | 'sql'): Change[] {
  const definitions = definitionsOf(text, language)
  const withinOf = (at: number) => definitions.findLast(({ start, end }) => start <= at && at < end)?.name
  const found: Change[] = []
  const add = (operator: string, start: number, end: number, to: string) => {
    const within = withinOf(start)
    // `SET a = ?` assigns, and so does a `=` in Lua, which has no token here.
    if (within !== undefined) found.push({ within, operator, start, end, to })
  }
  const skipped = new Set<number>()
  let isSet = false
  for (let at = 0; at < text.length; ) {
    const skip = matchAt(SKIPPED[language], text, at)
    if (skip) {
      for (let index = 0; index < skip.length; index++) skipped.add(at + index)
      at += skip.length
      continue
    }
    if (/^(?:SET|FROM|WHERE|RETURNING|SELECT|ON)\b/.test(text.slice(at, at + 10))) isSet = text.startsWith('SET', at)
    const token = TOKENS[language].flatMap(([pattern, to]) => {
      const match = matchAt(pattern, text, at)
      return match ? [{ match, to }] : []
    })[0]
    if (token && !(isSet && token.match === '=')) {
      add(`${token.match.trim()} to ${token.to.trim() || 'nothing'}`, at, at + token.match.length, token.to)
    }
    at += token?.match.length ?? 1
  }
  if (language === 'sql') return found
  for (const [operator, pattern, to] of [
    ['no call', LUA_CALL, ''],
    ['no result', LUA_RETURN, 'nil'],
  ] as const) {
    for (const match of text.matchAll(pattern)) {
      const start = match.index + match[0].length - match[1]!.length
      const isWhole = depthOf(match[1]!) === 0 && !/ (?:then|do|and|or|end)$/.test(match[1]!)
      if (!skipped.has(start) && isWhole) add(operator, start, start + match[1]!.length, to)
    }
  }
  return found
}

/** The Lua file with a mark in each function, which tells in the log of Redis that it runs; see hits.ts. */
export function withLuaHits(text: string, file: string): string {
  const marks = definitionsOf(text, 'lua').map(({ name, start }) => {
    const mark = ` redis.log(redis.LOG_WARNING, '__hit ${file}#${name}');`
    return [text.indexOf(')', start) + 1, mark] as const
  })
  return withInserted(text, marks)
}

function matchAt(pattern: RegExp, text: string, at: number): string | undefined {
  pattern.lastIndex = at
  return pattern.exec(text)?.[0]
}

function depthOf(code: string): number {
  let depth = 0
  for (const char of code) depth += '({['.includes(char) ? 1 : ')}]'.includes(char) ? -1 : 0
  return depth
}
