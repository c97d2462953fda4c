import { createHash } from 'node:crypto'
import { globSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { root } from '../fixtures/root.ts'
import { Tree } from '../mutations/tree.ts'
import { mostAlike } from './likeness.ts'
import type { Mutant } from './mutants.ts'
import { type Answer, Runner } from './runner.ts'
import { withLuaHits } from './tokens.ts'
import { withHits } from './typescript.ts'

/** A test, and how long it takes. */
export interface Covering {
  file: string
  name: string
  ms: number
  /** The time that its file takes before and after its tests. */
  fileMs: number
}

/** By test file: its content as a hash, and the functions of each test, `<file>#<function>`, as places in `names`. */
interface Known {
  names: string[]
  files: Record<
    string,
    { hash: string; ms: number; all: number[]; tests: Record<string, { ms: number; hits: number[] }> }
  >
}

const CACHE = join(root, '.cache/mutants/coverage.json')
const RUN_MS_MAX = 240_000
/** The form of a store that is as good as the others, and faster. */
const OTHER_FORMS = /^SQLite on a file/
/** Tests that are named like the code. */
const ALIKE_MAX = 20
/** A file of many tests costs each of them a part of its start. */
const SHARE = 0.1
const STATEMENT = '#statement(name: string): StatementSync {'

/** Which tests run which functions. */
export class Coverage {
  readonly #known: Known = read()
  readonly #places = new Map(this.#known.names.map((name, place) => [name, place]))
  /** The tests of each function. */
  readonly #tests = new Map<number, Covering[]>()

  /** Runs each test file once with every function marked, unless it was run before in the form that it has now. */
  async find(files: readonly string[]): Promise<void> {
    const missing = files.filter((file) => this.#known.files[file]?.hash !== hashOf(file))
    const tree = new Tree()
    const hits = mkdtempSync(join(tmpdir(), 'xqueue-hits-'))
    const env = { NODE_OPTIONS: `--import=${join(import.meta.dirname, 'hits.ts')}`, MUTANT_HITS: hits }
    const runner = new Runner(tree.folder, { env, setupFiles: ['test/mutants/present-test.ts'] })
    try {
      if (missing.length > 0) mark(tree.folder)
      for (const [index, file] of missing.entries()) {
        console.info(`${index + 1} of ${missing.length}: the functions that ${file} runs`)
        const started = performance.now()
        const answer = await runner.run({ changed: [], files: [file] }, RUN_MS_MAX)
        if (!answer || answer.isBroken) console.warn(`${file} fails with its functions marked, and is left out`)
        else this.#add(file, performance.now() - started, answer.tests, takeHits(hits))
        takeHits(hits)
        mkdirSync(dirname(CACHE), { recursive: true })
        writeFileSync(CACHE, JSON.stringify(this.#known))
      }
    } finally {
      runner.stop()
      tree.remove()
      rmSync(hits, { recursive: true, force: true })
    }
    for (const file of files) this.#list(file)
  }

  /**
   * The tests that run a mutant. First come some that are named like the code, then those that run a function which no
   * test before them runs, so that the first ones show as much behaviour as possible, and then the others.
   */
  testsOf({ file, line, within }: Mutant, text: string): Covering[] {
    const name = file.endsWith('.sql') ? `sql#${within}` : `${file}#${within}`
    // What is in a constant is run where its file is loaded.
    const place = this.#places.get(name) ?? this.#places.get(`${file}#module`) ?? -1
    const tests = (this.#tests.get(place) ?? []).toSorted((a, b) => costOf(a) - costOf(b))
    const code = text.split('\n')[line - 1]
    const alike = mostAlike(tests, (test) => `${test.file} ${test.name}`, `${name} ${code}`).slice(0, ALIKE_MAX)
    const seen = new Set(alike.flatMap((test) => this.#hitsOf(test)))
    const adding = tests.filter((test) => {
      const before = seen.size
      for (const hit of this.#hitsOf(test)) seen.add(hit)
      return seen.size > before
    })
    return [...new Set([...alike, ...adding, ...tests])]
  }

  #hitsOf({ file, name }: Covering): number[] {
    return this.#known.files[file]!.tests[name]!.hits
  }

  #add(file: string, ms: number, tests: Answer['tests'], hits: readonly [test: string, name: string][]): void {
    const byTest = Map.groupBy(hits, ([test]) => test)
    const of = (test: string) => [...new Set((byTest.get(test) ?? []).map(([, name]) => this.#place(name)))]
    const counted = tests.filter(({ name }) => !OTHER_FORMS.test(name))
    const found = counted.map(({ name, ms }) => [name, { ms: Math.ceil(ms), hits: of(name) }] as const)
    const fileMs = Math.round(Math.max(ms - tests.reduce((sum, test) => sum + test.ms, 0), 0))
    this.#known.files[file] = { hash: hashOf(file), ms: fileMs, all: of(''), tests: Object.fromEntries(found) }
  }

  #place(name: string): number {
    const known = this.#places.get(name)
    if (known !== undefined) return known
    const place = this.#known.names.push(name) - 1
    this.#places.set(name, place)
    return place
  }

  #list(file: string): void {
    const { ms: fileMs = 0, all = [], tests = {} } = this.#known.files[file] ?? {}
    for (const [name, { ms, hits }] of Object.entries(tests)) {
      for (const place of new Set([...all, ...hits])) {
        const listed = this.#tests.get(place) ?? []
        this.#tests.set(place, listed)
        listed.push({ file, name, ms, fileMs })
      }
    }
  }
}

function costOf({ ms, fileMs }: Covering): number {
  return ms + fileMs * SHARE
}

function mark(folder: string): void {
  const change = (file: string, marked: (text: string) => string) => {
    const path = join(folder, file)
    writeFileSync(path, marked(readFileSync(path, 'utf8')))
  }
  for (const file of globSync('src/**/*.ts', { cwd: folder })) change(file, (text) => withHits(text, file))
  for (const file of globSync('src/**/*.lua', { cwd: folder })) change(file, (text) => withLuaHits(text, file))
  change('src/store/sqlite/database/database.ts', (text) => {
    if (!text.includes(STATEMENT)) throw new Error('the function that looks up an SQL statement has another form now')
    return text.replace(STATEMENT, `${STATEMENT}globalThis.__hit?.('sql#' + name);`)
  })
}

/** What the processes of a test file have written. */
function takeHits(folder: string): [test: string, name: string][] {
  return readdirSync(folder).flatMap((name) => {
    const lines = readFileSync(join(folder, name), 'utf8').trim().split('\n')
    rmSync(join(folder, name))
    return lines.filter((line) => line !== '').map((line) => JSON.parse(line))
  })
}

function hashOf(file: string): string {
  return createHash('sha1')
    .update(readFileSync(join(root, file)))
    .digest('hex')
}

function read(): Known {
  try {
    return JSON.parse(readFileSync(CACHE, 'utf8'))
  } catch {
    return { names: [], files: {} }
  }
}
