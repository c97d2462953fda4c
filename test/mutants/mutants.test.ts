import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { closeAfterwards } from '../fixtures/closing.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { root } from '../fixtures/root.ts'
import { Tree } from '../mutations/tree.ts'
import { EQUIVALENT, lineOf } from './equivalent.ts'
import { Lane } from './lane.ts'
import { mutantsOf, shown } from './mutants.ts'
import { mutantsOfTokens, withLuaHits } from './tokens.ts'
import { withoutBroken } from './types.ts'
import { mutantsOfTypeScript, withHits } from './typescript.ts'

const applied = (text: string, changes: readonly { start: number; end: number; to: string }[]) =>
  changes.map(({ start, end, to }) => text.slice(0, start) + to + text.slice(end))

it.each([
  ['f(a < b && !c)', ['f(a <= b && !c)', 'f(a < b || !c)', 'f(a < b && c)', ';']],
  [
    "if (a === 'x') g()",
    ['if (true) g()', 'if (false) g()', "if (a !== 'x') g()", "if (a === '') g()", "if (a === 'x') ;"],
  ],
  [
    'async function f() { await g(1 + n) }',
    ['async function f() { ; }', 'async function f() { void g(1 + n) }', 'async function f() { await g(1 - n) }'],
  ],
  [
    'const f = () => { return a?.b ?? true }',
    [
      'const f = () => { return undefined as never }',
      'const f = () => { return a?.b && true }',
      'const f = () => { return a!.b ?? true }',
      'const f = () => { return a?.b ?? false }',
    ],
  ],
  ["throw new Error('a' + b)", [';']],
  ["logger.warn({ a }, 'text')", []],
  ['const f = () => { return undefined }', []],
  ['type A = B extends true ? 1 : 2', []],
])('changes %s by the operators that are usual', (text, expected) => {
  expect(applied(text, mutantsOfTypeScript(text)).sort()).toEqual([...expected].sort())
})

it('changes SQL and Lua, but no comments and texts', () => {
  const sql = "-- name: due\n-- a = b AND c\nSELECT a FROM t WHERE a = ? AND b = 'x = y' ORDER BY c DESC;\n"
  expect(applied(sql, mutantsOfTokens(sql, 'sql')).map((text) => text.split('\n')[2])).toEqual([
    "SELECT a FROM t WHERE a <> ? AND b = 'x = y' ORDER BY c DESC;",
    "SELECT a FROM t WHERE a = ? OR b = 'x = y' ORDER BY c DESC;",
    "SELECT a FROM t WHERE a = ? AND b <> 'x = y' ORDER BY c DESC;",
    "SELECT a FROM t WHERE a = ? AND b = 'x = y' ORDER BY c;",
  ])
  const lua = "local function f(a)\n  -- a == b\n  call('HDEL', 'a == b', a)\n  return a == 'x'\nend\n"
  expect(applied(lua, mutantsOfTokens(lua, 'lua')).map((text) => text.split('\n').slice(2, 4).join(';'))).toEqual([
    "  call('HDEL', 'a == b', a);  return a ~= 'x'",
    "  ;  return a == 'x'",
    "  call('HDEL', 'a == b', a);  return nil",
  ])
})

it('marks each function, and changes nothing else', () => {
  const text =
    '#!/usr/bin/env node\nimport a from "a"\nconst f = (x: number) => ({ x })\nfunction g() { return f(1) }\n'
  const ran: string[] = []
  const body = withHits(text, 'a.ts')
    .replace(/^.*\n.*\n/, '')
    .replace(': number', '')
  const g = new Function('globalThis', `${body}; return g`)({ __hit: (name: string) => ran.push(name) })
  expect(g()).toEqual({ x: 1 })
  expect(ran).toEqual(['a.ts#module', 'a.ts#g', 'a.ts#f'])
})

it('lists as equivalent only changes that are made', () => {
  const lines = new Set(
    mutantsOf(root, 'src/').map(
      (mutant) => `${mutant.file} ${lineOf(shown(mutant, readFileSync(join(root, mutant.file), 'utf8')))}`,
    ),
  )
  expect(EQUIVALENT.filter(([file, line]) => !lines.has(`${file} ${line}`))).toEqual([])
})

it('marks each function in Lua', () => {
  const lua = 'local function f(a) return a end\nfunction tasks.of(step)\n  return f(step)\nend\n'
  expect(withLuaHits(lua, 'a.lua')).toBe(
    "local function f(a) redis.log(redis.LOG_WARNING, '__hit a.lua#f'); return a end\n" +
      "function tasks.of(step) redis.log(redis.LOG_WARNING, '__hit a.lua#of');\n  return f(step)\nend\n",
  )
})

it.each([
  ['a.ts:1 f, no call\n  - g()\n  + ;', '- g()'],
  ['a.lua:1 f, no call\n  - g()\n  + ', '- g()'],
  ['a.ts:1 f, < to <=\n  - if (a < b) g()\n  + if (a <= b) g()', 'if (a <= b) g()'],
])('lists as equivalent a line after its change, or one that is left out', (text, line) => {
  expect(lineOf(text)).toBe(line)
})

describe('on a copy of the sources', () => {
  const file = 'src/task/transient-map.ts'
  const text = readFileSync(join(root, file), 'utf8')
  const mutants = mutantsOf(root, file)
  const tests = [
    'returns the value of a key until it is taken',
    'is empty after it was cleared, and can be filled again',
  ]
  const covering = tests.map((name) => ({ file: 'test/task/transient-map.test.ts', name, ms: 1, fileMs: 1_000 }))
  let lane: Lane

  beforeAll(() => {
    lane = new Lane({ testsOf: () => covering }, new Map())
    closeAfterwards(() => lane.stop())
  })
  const notice = (line: string) => lane.notice(mutants.find((mutant) => shown(mutant, text).endsWith(`  + ${line}`))!)

  it('names the test that notices a mutant, and not what failed before', async () => {
    expect(await notice('if (place !== undefined) return undefined')).toBe(tests[0])
    expect(await notice('if (true) {')).toBe(null)
    expect(await notice('return undefined as never')).not.toBe(null)
  })

  it('takes a run without an answer for noticed, and goes on with the next mutant', async () => {
    const start = text.lastIndexOf('this.#places.clear()')
    const deadly = { file, line: 1, within: 'clear', operator: 'deadly', start, end: start }
    expect(await lane.notice({ ...deadly, to: "process.kill(process.ppid, 'SIGKILL');" })).toBe('the tests do not end')
    expect(await notice('if (true) {')).toBe(null)
  })
})

it('leaves out the mutants that do not compile, also where several of a file are checked at once', async () => {
  const folder = temporaryFolder()
  const text = [
    'export function first(a: number | null): number {',
    '  if (a === null) return 0',
    '  return a + 1',
    '}',
    'export function second(list: readonly string[]): number {',
    '  const found = list.find(',
    "    (one) => one !== '',",
    '  )',
    '  if (!found) return 0',
    '  return found.length',
    '}',
    'export function third(value: unknown): string {',
    "  return typeof value === 'string' ? value : ''",
    '}',
  ].join('\n')
  mkdirSync(join(folder, 'src/task'), { recursive: true })
  writeFileSync(join(folder, 'src/task/all.ts'), text)
  const compilerOptions = { strict: true, module: 'nodenext', target: 'esnext', types: [] }
  writeFileSync(join(folder, 'tsconfig.build.json'), JSON.stringify({ compilerOptions, include: ['src'] }))
  const tree = { folder, run: Tree.prototype.run }
  const all = mutantsOf(folder, 'src/')
  const whole = await withoutBroken(tree, all)
  const broken = all.filter((mutant) => !whole.includes(mutant)).map(({ line, operator }) => `${line} ${operator}`)
  expect(broken).toEqual([
    '2 condition true',
    '2 condition false',
    '2 === to !==',
    '7 !== to ===',
    '9 condition true',
    '9 condition false',
    '13 condition true',
    '13 condition false',
    '13 === to !==',
    '13 empty text',
  ])
})
