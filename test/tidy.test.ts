import { globSync, readFileSync } from 'node:fs'
import { basename, dirname, join, relative } from 'node:path'
import { expect, it } from 'vitest'
import { definitionsOf } from './mutations/definitions.ts'

const root = join(import.meta.dirname, '..')
const files = globSync('src/**/*.ts', { cwd: root })
const text = (file: string) => readFileSync(join(root, file), 'utf8')

/** Which folders of src a folder may import. What is above a store uses the queue. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  task: [],
  store: ['task'],
  queue: ['task', 'store'],
  trace: ['task', 'queue/queue.ts'],
  worker: ['task', 'queue/queue.ts', 'trace'],
  access: ['task', 'queue/queue.ts', 'notify/topics.ts'],
  tenants: ['task', 'queue', 'store'],
  server: ['task', 'queue/queue.ts', 'tenants', 'access', 'trace', 'worker/handlers.ts'],
  notify: ['task', 'queue/queue.ts'],
  client: ['task', 'trace', 'worker/handler.ts'],
  config: ['task'],
  remote: ['task', 'queue/queue.ts', 'client/call.ts', 'config/config.ts', 'worker'],
  testing: ['task', 'queue/queue.ts', 'queue/open.ts', 'worker', 'client'],
}

it('imports only in the directions of the architecture', () => {
  const wrong = files.flatMap((file) => {
    const folder = relative('src', file).split('/')[0]!
    const allowed = ALLOWED[folder]
    if (!allowed) return []
    return [...text(file).matchAll(/(?:from|import\() ?'(\.[^']+)'/g)]
      .map(([, path]) => relative('src', join(dirname(file), path!)))
      .filter((path) => ![folder, ...allowed].some((start) => path === start || path.startsWith(`${start}/`)))
      .map((path) => `${file} imports ${path}`)
  })
  expect(wrong).toEqual([])
})

it('has programs of tests that need no test runner when they are loaded', () => {
  const { scripts } = JSON.parse(text('package.json')) as { scripts: Record<string, string> }
  const programs = Object.values(scripts).flatMap((script) => /^node (test\/\S+\.ts)/.exec(script)?.[1] ?? [])
  const seen = new Set<string>()
  const visit = (file: string): string[] => {
    if (seen.has(file) || !file.endsWith('.ts')) return []
    seen.add(file)
    const own = /^vi\./m.test(text(file)) ? [file] : []
    return [
      ...own,
      ...[...text(file).matchAll(/from '(\.[^']+)'/g)].flatMap(([, path]) => visit(join(dirname(file), path!))),
    ]
  }
  expect(programs.length).toBeGreaterThan(5)
  expect(programs.flatMap(visit)).toEqual([])
})

it('has no import cycle, not even of types', () => {
  const imports = new Map(
    files.map((file) => [
      file,
      [...text(file).matchAll(/from '(\.[^']+)'/g)].map(([, path]) => join(dirname(file), path!)),
    ]),
  )
  const done = new Set<string>()
  const cycles: string[] = []
  const visit = (file: string, path: readonly string[]) => {
    if (path.includes(file)) cycles.push([...path.slice(path.indexOf(file)), file].join(' → '))
    if (path.includes(file) || done.has(file)) return
    for (const next of imports.get(file) ?? []) visit(next, [...path, file])
    done.add(file)
  }
  for (const file of files) visit(file, [])
  expect(cycles).toEqual([])
})

it('names stores only in open.ts', () => {
  const inside = /^src\/store\/(sqlite|redis|kafka)\//
  const named = files.filter((file) => !inside.test(file) && /(sqlite|redis|kafka)-store\.ts/.test(text(file)))
  expect(named).toEqual(['src/store/open.ts'])
})

const FILE_LINES_MAX = 420
/** Biome checks functions of TypeScript. */
const DEFINITION_LINES_MAX = { lua: 80, sql: 20 }

it('keeps files, lines, Lua functions and SQL statements short', () => {
  const sources = [...globSync('src/**/*.{ts,lua,sql}', { cwd: root }), ...globSync('test/**/*.ts', { cwd: root })]
  const long = sources.filter((file) => text(file).split('\n').length > FILE_LINES_MAX)
  expect(long).toEqual([])
  const wide = sources.flatMap((file) =>
    text(file)
      .split('\n')
      .filter((line) => line.length > 120 && (file.startsWith('src/') || !/['`]/.test(line))) // Biome wraps no texts.
      .map((line) => `${file}: ${line}`),
  )
  expect(wide).toEqual([])
  const tall = (['lua', 'sql'] as const).flatMap((language) =>
    globSync(`src/**/*.${language}`, { cwd: root }).flatMap((file) =>
      definitionsOf(text(file), language)
        .map(({ name, start, end }) => ({ file, name, lines: text(file).slice(start, end).trim().split('\n').length }))
        .filter(({ lines }) => lines > DEFINITION_LINES_MAX[language]),
    ),
  )
  expect(tall).toEqual([])
})

it('uses the words of the domain', () => {
  const banned = /\b\w*(Manager|Helper|Utils|Job)\b/
  expect(files.filter((file) => banned.test(text(file)) || /(utils|helpers|common|manager)/.test(file))).toEqual([])
})

it('uses every SQL statement', () => {
  const code = files
    .filter((file) => file.startsWith('src/store/sqlite/'))
    .map(text)
    .join('\n')
  const statements = globSync('src/store/sqlite/**/*.sql', { cwd: root })
    .flatMap((file) => [...text(file).matchAll(/^-- name: (\w+)/gm)])
    .map(([, name]) => name!)
  expect(statements.length).toBeGreaterThan(30)
  expect(statements.filter((name) => !code.includes(`'${name}'`))).toEqual([])
})

it('has a contract for every operation of the port and of the queue', () => {
  const verbsOf = (file: string, name: string) => {
    const start = text(file).slice(text(file).indexOf(`export interface ${name}`))
    return [...start.slice(0, start.indexOf('\n}\n')).matchAll(/^ {2}(\w+)\(/gm)].map(([, verb]) => verb!)
  }
  const verbs = [...verbsOf('src/store/store.ts', 'Store {'), ...verbsOf('src/queue/queue.ts', 'Queue\n')]
  expect(verbs.length).toBeGreaterThanOrEqual(15)
  const contract = globSync('test/queue-contract/*.ts', { cwd: root }).map(text).join('\n')
  const ofStores = globSync('test/store-contract/*.ts', { cwd: root }).map(text).join('\n')
  const isTested = (verb: string) =>
    contract.includes(`function ${verb}Contract(`) || ofStores.includes(`store.${verb}(`)
  expect(verbs.filter((verb) => !isTested(verb))).toEqual([])
})

it('lists the statuses that stores keep in one file', () => {
  const lists = [...files, ...globSync('src/store/**/*.{lua,sql}', { cwd: root })].filter((file) =>
    /'(pending|delayed|dependent)', '(delayed|dependent)'|'success', 'failed'|'failed', 'canceled'/.test(text(file)),
  )
  expect(lists).toEqual(['src/task/status.ts'])
})

it('uses every key of Redis and every step, and writes only named keys in Lua', () => {
  const lua = globSync('src/store/redis/**/*.lua', { cwd: root }).map(text).join('\n')
  const keys = text('src/store/redis/records/keys.ts')
  const table = keys.slice(keys.indexOf('export const KEYS = {'), keys.indexOf('} as const'))
  const names = [...table.matchAll(/^ {2}(\w+): /gm)].map(([, name]) => name!)
  expect(names.length).toBeGreaterThan(40)
  const code = `${lua}\n${files
    .filter((file) => file.startsWith('src/store/redis/'))
    .map(text)
    .join('\n')}`
  expect(names.filter((name) => !new RegExp(`\\b(KEY|KEYS)\\.${name}\\b`).test(code))).toEqual([])
  expect([...lua.matchAll(/\bKEY\.(\w+)/g)].map(([, name]) => name!).filter((name) => !names.includes(name))).toEqual(
    [],
  )
  expect([...lua.matchAll(/\bstep\.prefix \.\. '[^' ][^']*'/g)].map(([match]) => match)).toEqual([])
})

it('keeps no state outside functions in Lua, because all steps share one library', () => {
  const sources = globSync('src/store/redis/**/*.lua', { cwd: root }).map((file) => ({ file, lua: text(file) }))
  const variables = sources.flatMap(({ lua }) =>
    [...lua.matchAll(/^local (?!function)([\w, ]+?)(?: =|$)/gm)].flatMap(([, names]) => names!.split(', ')),
  )
  expect(variables.length).toBeGreaterThan(50)
  const changed = sources.flatMap(({ file, lua }) =>
    definitionsOf(lua, 'lua').flatMap(({ name, start, end }) => {
      const body = lua.slice(start, end)
      const own = [...body.matchAll(/(?:local|for|function[\w .]*\() *([\w, ]+)/g)].flatMap(([, names]) =>
        names!.split(/[ ,]+/),
      )
      const assigned = [...body.matchAll(/^ +((?:[\w.[\]]+, )*[\w.[\]]+) = /gm)].flatMap(([, left]) =>
        left!.split(', '),
      )
      const outer = assigned.map((left) => left.split(/[.[]/)[0]!).filter((left) => !own.includes(left))
      return outer.filter((left) => variables.includes(left)).map((left) => `${file}, ${name}: ${left}`)
    }),
  )
  // The command itself, and a mark that belongs to the server, not to a step.
  expect(changed.sort()).toEqual([
    'src/store/redis/records/outbox.lua, give_positions: has_given_positions',
    'src/store/redis/records/shared.lua, begin: call',
  ])
})

it('gives the variables of tests no names of settings, which a program that a test starts would refuse', () => {
  const sources = globSync('{test,bench}/**/*.ts', { cwd: root })
  const read = sources.flatMap((file) => text(file).match(/process\.env\.XQUEUE_\w+/g) ?? [])
  expect(read.filter((name) => !/XQUEUE_(?:SERVER|KEY)$/.test(name))).toEqual([])
})

it('names only files that exist in comments', () => {
  const sources = globSync(['src/**/*.{ts,lua,sql}', 'test/**/*.ts', 'dashboard/src/*.{ts,tsx}'], { cwd: root })
  // The last is a user's own file.
  const names = new Set([...sources.map((file) => basename(file)), 'xqueue.config.ts'])
  const comment = /^\s*(?:\/?\*+|\/\/|--) .*$/gm
  const named = sources.flatMap((file) =>
    (text(file).match(comment) ?? [])
      .flatMap((line) => line.match(/(?<![\w*{},.-])[\w/-]+(?:\.\w+)?\.(?:tsx?|lua|sql)\b/g) ?? [])
      .map((name) => ({ file, name })),
  )
  expect(named.length).toBeGreaterThan(20)
  expect(named.filter(({ name }) => !names.has(basename(name)))).toEqual([])
})

/** Words of style rules: plain English uses standard terms instead. Each with an example of a better word. */
const BANNED_WORDS: readonly [word: RegExp, instead: string][] = [
  [/\bwhoever\b/i, 'any client, each caller'],
  [/\b(nobody|anybody|everybody|somebody)\b/i, 'no client, any caller, every process, another process'],
  [/\b(is|are|was|were|be|been) told\b/i, 'receives, is notified'],
  [/\bhears?\b/i, 'receives'],
  [/\b(comes|came) to\b/i, 'results in'],
  [/\bstands\b/i, 'is'],
  [/\blook(s|ed)? at\b/i, 'read, check'],
  [/\bmend(s|ed|ing)?\b/i, 'correct, fix, repair'],
  [/\bcut(s|ting)? off\b/i, 'disconnect'],
  [/\ball the same\b/i, 'anyway'],
  [/\b(door|guests?)\b/i, 'submitter, client'],
]

it('uses plain English in documents, references, messages and comments', () => {
  const documents = globSync(['*.md', 'docs/**/*.md', 'clients/*/README.md', 'starter/*.md'], { cwd: root })
  const texts = [
    ...documents,
    ...globSync(['src/**/*.{ts,lua,sql}', 'handlers/*.ts', 'dashboard/src/*.{ts,tsx}', 'scripts/**/*.ts'], {
      cwd: root,
    }),
  ].filter((file) => file !== 'CHANGELOG.md')
  const found = texts.flatMap((file) =>
    text(file)
      .split('\n')
      .flatMap((line) =>
        BANNED_WORDS.filter(([word]) => word.test(line)).map(([, instead]) => ({ file, line, instead })),
      ),
  )
  expect(found).toEqual([])
})

/** Titles of tests, and comments. Payloads and messages that a test sends are not checked. */
function proseOf(source: string): string[] {
  const comment = /(?:^|\s)(?:\/\/|\/?\*+|#) .*$/
  const title = /^\s*(?:(?:it|describe)\b.*\(\s*['`"]|'[^']* [^']* [^']*',$).*/
  return source.split('\n').flatMap((line) => [comment.exec(line)?.[0] ?? [], title.exec(line)?.[0] ?? []].flat())
}

it('uses plain English in the titles and comments of tests', () => {
  const tests = globSync(['test/**/*.{ts,py}', 'clients/go/**/*.go', 'clients/python/**/*.py'], { cwd: root })
  const prose = tests
    .filter((file) => file !== 'test/tidy.test.ts' && !file.includes('node_modules'))
    .flatMap((file) => proseOf(text(file)).map((line) => ({ file, line })))
  expect(prose.length).toBeGreaterThan(1_500)
  // An expected message of a handler, not a title.
  const exception = "'Error: nobody waits for this',"
  const found = prose.flatMap(({ file, line }) =>
    BANNED_WORDS.filter(([word]) => word.test(line) && line.trim() !== exception).map(([, instead]) => ({
      ...{ file, line, instead },
    })),
  )
  expect(found).toEqual([])
})
